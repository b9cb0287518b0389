"""What a run leaves behind: metrics.json (scores, claims, studies) and run.json (how it came)."""

from __future__ import annotations

import math
import os
import re
import subprocess
import warnings
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import colorlib
from colorlib import files
from colorlib.machine import Machine, describe, peak_memory
from colorlib.notebooks import PROFILES

VERDICTS = ("held", "partly", "did not hold", "not testable here", "not run yet")
SECTIONS = ("notebook", "profile", "data", "results", "paper", "claims", "studies")
COUNTS = ("train", "test", "excluded_grey")
SCORES = ("psnr", "psnr_pooled", "ssim", "cf_ratio", "delta_e", "gain_over_grey")
INTERVALS = ("psnr", "ssim", "delta_e", "gain_over_grey")
CLAIM = ("claim", "test", "number", "verdict")


class RecordError(Exception):
    """A record is missing, damaged or not what a record must be; every problem is named."""


def claim(text: str, test: str, number: float | str | None, verdict: str) -> dict[str, Any]:
    """Return a row of the claims: what the paper says, how it was tested, the outcome.

    `number` is the evidence (a number, or words such as "21.4 against 20.9 dB"); None only where
    the verdict is "not testable here" or "not run yet".
    """
    row = dict(zip(CLAIM, (text, test, _plain(number), verdict), strict=True))
    if problems := [*_claim_problems("claim", row), *_not_plain("claim", row)]:
        raise RecordError("; ".join(problems))
    return row


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
    extra: dict[str, Any] | None = None,
) -> None:
    """Write metrics.json and run.json; nothing is written when something is wrong.

    Args:
        data: "name", "train", "test", "excluded_grey"; whatever else it holds ("hash", "note",
            "skipped") goes to run.json.
        results: row -> scores as `metrics.evaluate` returns them; {} if there are no test pictures.
        studies: study -> what its table needs; "origin" and "date" are added when it is read.
        seconds: what -> wall-clock seconds.
        weights_origin: where pretrained weights came from, or "trained here".
        extra: plain data for run.json.
    """
    counted = {key: data[key] for key in ("name", *COUNTS) if key in data}
    values = (notebook, profile, counted, results, paper, claims, studies)
    metrics = _scrubbed(_plain(dict(zip(SECTIONS, values, strict=True))))
    check_metrics(metrics)
    run = {
        "notebook": notebook,
        "profile": profile,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "git": _git_state(files.root()),
        "colorlib": colorlib.__version__,
        "seed": parameters.get("seed"),
        "parameters": parameters,
        "data": data,
        "seconds": seconds,
        "memory_mib": peak_memory(),
        "machine": {
            "device": str(machine.device),
            "precision": str(machine.autocast_dtype or "float32").removeprefix("torch."),
            "channels_last": machine.channels_last,
            **describe(machine.device),
            "threads": machine.threads,
        },
        "weights_origin": weights_origin,
        "extra": extra or {},
    }
    folder = Path(report_dir)
    try:
        files.write_json(folder / "run.json", _scrubbed(_plain(run)))
        files.write_json(folder / "metrics.json", metrics)
    except OSError as problem:
        reason = problem.strerror or problem
        raise RecordError(f"{folder}: cannot write the record ({reason}); run it again") from None


def read(report_dir: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (metrics, run) of a report folder, checked."""
    folder = Path(report_dir)
    metrics, run = _read(folder / "metrics.json"), _read(folder / "run.json")
    try:
        check_metrics(metrics)
    except RecordError as problem:
        raise RecordError(f"{folder / 'metrics.json'}: {problem}") from None
    return metrics, run


def newest_study(notebook: str, study: str) -> dict[str, Any] | None:
    """Return a study of the newest evening or paper run of a notebook, or None.

    It is the study's own data with "origin" (the profile) and "date" (YYYY-MM-DD) added.
    """
    found = []
    for profile in ("evening", "paper"):
        folder = files.root() / "reports" / profile / notebook
        if not (folder / "metrics.json").exists():
            continue
        try:
            metrics, run = read(folder)
        except RecordError as problem:  # a bad report of another run must not stop this one
            warnings.warn(str(problem), stacklevel=2)
            continue
        if content := metrics["studies"].get(study):
            found.append((str(run.get("date", "")), profile, content))
    if not found:
        return None
    date, origin, content = max(found, key=lambda each: each[:2])
    return {**content, "origin": origin, "date": date[:10]}


def _read(path: Path) -> dict[str, Any]:
    try:
        return files.read_json(path, strict=True)
    except FileNotFoundError:
        raise RecordError(f"{path}: no such record; run the notebook first") from None
    except (OSError, ValueError) as problem:
        reason = str(problem).splitlines()[0]
        raise RecordError(f"{path}: not a readable record ({reason}); run it again") from None


# -------------------------------------------------------------------------------------- checks


def check_metrics(metrics: dict[str, Any]) -> None:
    """Raise RecordError with all that is wrong with the content of a metrics.json."""
    problems = list(_not_plain("", metrics))
    problems += _key_problems("metrics", metrics, SECTIONS)
    if not problems:  # the shape is known: look inside
        problems += _data_problems(metrics["data"])
        if metrics["profile"] not in PROFILES:
            problems.append(f"profile '{metrics['profile']}' is none of {', '.join(PROFILES)}")
        if not (isinstance(metrics["notebook"], str) and metrics["notebook"]):
            problems.append("notebook has no name")
        problems += _result_problems(metrics["results"], metrics["data"])
        if not isinstance(metrics["paper"], dict):
            problems.append("paper is not a table")
        problems += _list_problems(metrics["claims"])
        problems += _study_problems(metrics["studies"])
    if problems:
        raise RecordError("; ".join(problems))


def _not_plain(where: str, value: Any) -> Iterator[str]:
    """Name every value that JSON cannot hold faithfully."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                yield f"{where or 'metrics'} has the key {key!r}, which is no string"
            yield from _not_plain(f"{where}.{key}".lstrip("."), item)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _not_plain(f"{where}[{place}]", item)
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield f"{where} is {value}"
    elif not isinstance(value, (str, int, bool, type(None))):
        yield f"{where} is a {type(value).__name__}, not plain data"


def _key_problems(
    where: str, table: Any, wanted: tuple[str, ...], more: bool = False
) -> Iterator[str]:
    if not isinstance(table, dict):
        yield f"{where} is not a table"
        return
    yield from (f"{where} lacks '{key}'" for key in wanted if key not in table)
    if not more:
        yield from (f"{where} has an unknown '{key}'" for key in table if key not in wanted)


def _data_problems(data: Any) -> Iterator[str]:
    yield from _key_problems("data", data, ("name", *COUNTS))
    if isinstance(data, dict):
        for key in COUNTS:
            if key in data and not (_is_whole(data[key]) and data[key] >= 0):
                yield f"data.{key} is {data[key]!r}, not a count"
        if not (isinstance(data.get("name"), str) and data["name"]):
            yield "data.name is empty"


def _result_problems(results: Any, data: Any) -> Iterator[str]:
    if not isinstance(results, dict):
        yield "results is not a table"
        return
    tested = isinstance(data, dict) and data.get("test") != 0
    if results or tested:
        yield from (f"results lacks the row '{row}'" for row in files.FLOORS if row not in results)
    for row, scores in results.items():
        where = f"results.{row}"
        yield from _key_problems(where, scores, (*SCORES, "n", "ci95"), more=True)
        if not isinstance(scores, dict):
            continue
        for key, value in scores.items():
            if key != "ci95" and not _is_number(value):
                yield f"{where}.{key} is {value!r}, not a number"
        if "n" in scores and not (_is_whole(scores["n"]) and scores["n"] >= 1):
            yield f"{where}.n is {scores['n']!r}, not a number of pictures"
        if "ci95" in scores:
            yield from _interval_problems(f"{where}.ci95", scores["ci95"])


def _interval_problems(where: str, intervals: Any) -> Iterator[str]:
    yield from _key_problems(where, intervals, INTERVALS, more=True)
    for key, ends in intervals.items() if isinstance(intervals, dict) else ():
        pair = isinstance(ends, list) and len(ends) == 2 and all(map(_is_number, ends))
        if not pair or ends[0] > ends[1]:
            yield f"{where}.{key} is {ends!r}, not [low, high]"


def _list_problems(claims: Any) -> Iterator[str]:
    if not isinstance(claims, list):
        yield "claims is not a list"
        return
    for place, row in enumerate(claims):
        yield from _claim_problems(f"claims[{place}]", row)


def _claim_problems(where: str, row: Any) -> Iterator[str]:
    yield from _key_problems(where, row, CLAIM)
    if not isinstance(row, dict) or set(row) != set(CLAIM):
        return
    for key in ("claim", "test"):
        if not (isinstance(row[key], str) and row[key].strip()):
            yield f"{where}.{key} is empty"
    if row["verdict"] not in VERDICTS:
        yield f"{where}: verdict {row['verdict']!r} is none of {', '.join(VERDICTS)}"
    elif row["number"] in (None, "") and row["verdict"] in VERDICTS[:3]:
        yield f"{where}: the verdict '{row['verdict']}' needs a number"
    if not (row["number"] is None or isinstance(row["number"], str) or _is_number(row["number"])):
        yield f"{where}.number is {row['number']!r}, neither a number nor words"


def _study_problems(studies: Any) -> Iterator[str]:
    if not isinstance(studies, dict):
        yield "studies is not a table"
        return
    for name, content in studies.items():
        if not isinstance(content, dict):
            yield f"studies.{name} is not a table"
        elif taken := {"origin", "date"} & content.keys():
            yield f"studies.{name} uses the reserved {', '.join(sorted(taken))}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# ---------------------------------------------------------------- plain data without local paths


def _plain(value: Any) -> Any:
    """Turn tuples, paths and the numbers of numpy and torch into what JSON knows."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return _plain(value.tolist()) if hasattr(value, "tolist") else value


# at least two parts after a slash, a home or a drive; not the tail of a web address or a fraction
_PATH = re.compile(
    r"(?<![\w./:~\\-])(?:file://)?(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\:;,'\"()<>|]+){2,}[/\\]?"
)


def _scrubbed(value: Any) -> Any:
    """Replace paths of this machine by their base names, anywhere in plain data."""
    if isinstance(value, dict):
        return {_scrubbed(key): _scrubbed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_scrubbed(item) for item in value]
    if not isinstance(value, str):
        return value
    if ("/" in value or "\\" in value) and os.path.exists(os.path.expanduser(value)):
        return _base_name(os.path.abspath(os.path.expanduser(value)))
    return _PATH.sub(lambda found: _base_name(found.group()), value)


def _base_name(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _git_state(folder: Path) -> dict[str, Any]:
    """Return the commit of the project and whether it was changed since; "none" outside git."""
    try:
        top = files.git(folder, "rev-parse", "--show-toplevel")
        if Path(top).resolve() != folder.resolve():  # somebody else's repository around us
            return {"commit": "none", "dirty": False}
        commit = files.git(folder, "rev-parse", "HEAD")
        changed = files.git(folder, "status", "--porcelain", "--", ".", ":(exclude)reports")
    except (OSError, subprocess.SubprocessError):
        return {"commit": "none", "dirty": False}
    return {"commit": commit, "dirty": bool(changed)}
