"""What a run leaves behind: metrics.json (scores, claims, studies) and run.json (how it came).

metrics.json repeats; times, dates and whatever else does not, stand in run.json.
"""

import sys
import warnings
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

import colorlib
from colorlib import files
from colorlib.machine import Machine, describe, peak_memory

VERDICTS = ("supported", "contradicted", "inconclusive", "not testable", "not run yet")
SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_TESTABLE, NOT_RUN = VERDICTS
CLAIM = ("claim", "section", "test", "number", "verdict", "trainings", "scale", "origin")
QUESTION = ("id", "the paper says", "we do", "why", "how much it matters")
COUNTS = ("name", "train", "test", "excluded_grey")
SCHEMA = files.TEMPLATES / "metrics.yml"


class RecordError(Exception):
    """A record is missing, damaged or not what a record must be; every problem is named."""


def origin(profile: str, date: str = "", commit: str = "", scale: str = "") -> dict[str, str]:
    """Return where a result comes from; without a date it is this very run's."""
    return {"profile": profile, "date": date, "commit": commit, "scale": scale}


def write(
    report_dir: str | Path,
    *,
    notebook: str,
    profile: str,
    data: dict[str, Any],
    results: dict[str, dict[str, Any]],
    paper: dict[str, Any],
    claims: list[dict[str, Any]],
    studies: dict[str, dict[str, Any]],
    parameters: dict[str, Any],
    seconds: dict[str, float],
    machine: Machine,
    weights_origin: str,
    questions: list[dict[str, str]] | None = None,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write metrics.json and run.json; nothing is written when something is wrong.

    Results are those of `metrics.evaluate`, {} without test pictures; claims and questions rows of
    `evidence`. What `data` has beside COUNTS, and `extra`, goes to run.json; studies that another
    run made go nowhere.
    """
    about = {"notebook": notebook, "profile": profile}
    own = {n: s for n, s in studies.items() if s and not s.get("origin", {}).get("date")}
    metrics = {
        **about,
        "data": {key: data[key] for key in COUNTS if key in data},
        "results": results,
        "paper": paper,
        "claims": claims,
        "questions": questions or [],
        "studies": {name: {"origin": origin(profile), **study} for name, study in own.items()},
    }
    check_metrics(metrics)
    run = {
        **about,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "git": _git_state(files.root()),
        "colorlib": colorlib.__version__,
        "seed": parameters.get("seed"),
        "parameters": parameters,
        "data": data,
        "seconds": seconds,
        "memory_mib": peak_memory(),
        "machine": describe(machine),
        "weights_origin": weights_origin,
        "extra": extra or {},
    }
    folder = Path(report_dir)
    try:
        for name, content in (("metrics.json", metrics), ("run.json", run)):  # the larger first
            files.write_json(folder / name, content)
    except OSError as problem:
        reason = problem.strerror or problem
        raise RecordError(f"{folder}: cannot write the record ({reason}); run it again") from None


def read(report_dir: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (metrics, run) of a report folder, checked."""
    path = Path(report_dir) / "metrics.json"
    try:
        check_metrics(metrics := files.read_json(path, strict=True))
        path = path.with_name("run.json")
        return metrics, files.read_json(path, strict=True)
    except FileNotFoundError:
        raise RecordError(f"{path}: no such record; run the notebook first") from None
    except (OSError, ValueError, RecordError) as problem:
        reason = str(problem).splitlines()[0]
        raise RecordError(f"{path}: not a readable record ({reason}); run it again") from None


def newest(notebook: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Give (metrics, run) of a lesson's overnight and paper runs and its studies', newest first."""
    lesson, found = notebook.removeprefix("studies/"), []
    for profile in ("overnight", "paper"):
        for folder in (lesson, f"studies/{lesson}"):
            report = files.root() / "reports" / profile / folder
            try:
                found += [read(report)] if (report / "metrics.json").exists() else []
            except RecordError as problem:  # a bad report of another run must not stop this one
                warnings.warn(str(problem), stacklevel=2)
    yield from sorted(found, key=lambda both: str(both[1].get("date", "")), reverse=True)


def newest_study(notebook: str, study: str) -> dict[str, Any] | None:
    """Return a study's newest overnight or paper result, its origin filled in."""
    for metrics, run in newest(notebook):
        if content := metrics["studies"].get(study):
            commit = run.get("git", {}).get("commit", "")
            made = {"date": str(run.get("date", ""))[:10], "commit": commit[:7]}
            return {**content, "origin": content["origin"] | made}
    return None


def check_metrics(metrics: dict[str, Any]) -> None:
    """Raise RecordError with all that is wrong with the content of a metrics.json."""
    # jsonschema would take a second to import this, to check addresses that no record has
    sys.modules.setdefault("rfc3987_syntax", None)
    import jsonschema

    validator = jsonschema.Draft202012Validator(yaml.safe_load(SCHEMA.read_text("utf-8")))
    found = validator.iter_errors(files.plain_data(metrics))
    if problems := "; ".join(f"{each.json_path}: {each.message}" for each in found):
        raise RecordError(problems)


def _git_state(folder: Path) -> dict[str, Any]:
    """Return the commit of the project and whether it was changed since; "none" outside git."""
    told = files.git(folder, "rev-parse", "--show-toplevel", "HEAD")
    top, commit = told.splitlines() if told else ("", "none")
    if not top or Path(top).resolve() != folder.resolve():  # somebody else's repository around us
        return {"commit": "none", "dirty": False}
    changed = files.git(folder, "status", "--porcelain", "--", ".", ":(exclude)reports")
    return {"commit": commit, "dirty": changed != ""}
