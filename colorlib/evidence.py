"""The evidence of a claim: studies compared, shown and judged by the same rules for every paper.

A study trains variants for equal steps, once per seed, and holds each against the first, paired
picture by picture (or pair by pair). Its rows are plain data: variant -> means, and
`delta_e_paired`, `psnr_paired`, ... as `paired` returns them.

The rule of a verdict: without a **sure** effect (its interval on the claim's side of zero) a claim
did not hold. With it, it is partly held; and held if also every training agrees, there are at least
three of them, and PSNR does not contradict CIEDE2000. Thresholds are written the same way: what is
sure, and what else is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from colorlib import figures, metrics, record

FEWEST_TRAININGS = 3  # one training says nothing about the luck of a training
FEWEST_PAIRS = 5  # where every pair is a training of its own
QUESTION = ("id", "the paper says", "we do", "why", "how much it matters")

Study = dict[str, Any]


def paired(ours: Any, theirs: Any) -> dict[str, Any]:
    """Compare two (seeds, pictures): mean difference, 95 % interval over pictures, each seed's.

    Pictures that are not scored (nan) are left out.
    """
    gap = np.atleast_2d(np.asarray(ours, float) - np.asarray(theirs, float))
    gap = gap[:, np.isfinite(gap).all(0)]
    low, high = metrics.bootstrap(gap.mean(0), seed=0)
    return {"mean": float(gap.mean()), "low": low, "high": high, "seeds": gap.mean(1).tolist()}


def in_words(difference: Mapping[str, Any], unit: str = "") -> str:
    """Write a paired difference with its interval."""
    return f"{difference['mean']:+.2f}{unit} [{difference['low']:+.2f}, {difference['high']:+.2f}]"


# -------------------------------------------------------------------------------------- studies


def find(
    notebook: str, name: str, run: Callable[[], Study | None], P: SimpleNamespace
) -> Study | None:
    """Run a study that the parameters ask for; else take its newest committed result, or None."""
    if name in P.studies:
        study = run()
        return study and {**study, "origin": f"this run, {P.profile} profile"}
    return committed(notebook, name)


def committed(notebook: str, name: str) -> Study | None:
    """Return the newest committed result of a study with its origin in words, or None."""
    study = record.newest_study(notebook, name)
    return study and {**study, "origin": f"{study['origin']} run of {study['date']}"}


def missing(notebook: str, study: Study | None, caption: str) -> bool:
    """Say how to get a study that has no result yet; True if so."""
    if study is None:
        command = f"python -m colorlib run {notebook} --profile evening"
        print(f"{caption}: not run yet. Run it: {command}")
    return study is None


def show(
    notebook: str,
    name: str,
    study: Study | None,
    caption: str,
    about: Callable[[Study], str],
    columns: Mapping[str, str] | None = None,
) -> None:
    """Show a study's table, or say how to get it.

    Args:
        about: tells data, size and steps from the study, for the caption.
        columns: further keys of the rows and their titles; only where a row has the key.
    """
    if missing(notebook, study, caption):
        return
    rows = []
    for place, (variant, found) in enumerate(study["variants"].items()):
        gap = found["delta_e_paired"]
        row = {
            "variant": variant,
            "gain over grey, dB": found["gain_over_grey"],
            "colourfulness / truth": found["cf_ratio"],
            "CIEDE2000": found["delta_e"],
            "CIEDE2000 against the first": in_words(gap) if place else "–",
            "each seed": ", ".join(f"{each:+.2f}" for each in gap["seeds"]) if place else "–",
        }
        more = columns or {}
        rows.append(row | {title: found[key] for key, title in more.items() if key in found})
    figures.table(rows, caption=f"{caption} ({about(study)}; {study['origin']})", name=name)


def variant(study: Study | None, name: str) -> Mapping[str, Any] | None:
    """Return the row of a variant, by its name or the beginning of it; None without one."""
    rows = study["variants"] if study else {}
    full = name if name in rows else next((n for n in rows if n.startswith(name)), None)
    return rows.get(full)


def effect(study: Study | None, name: str) -> str:
    """Write what a variant changes against the study's first."""
    if study is None:
        return "not run yet"
    row = variant(study, name)
    if row is None:
        return "no such variant in that run"
    if row is next(iter(study["variants"].values())):
        return "what is done here"
    return f"CIEDE2000 {in_words(row['delta_e_paired'])} ({study['origin']})"


def source(study: Study | None) -> str:
    """Write where a study was run, for the claims that rest on it."""
    return f" [{study['origin']}]" if study else ""


# -------------------------------------------------------------------------------------- verdicts


def judge(known: Any, sure: Any, also: Any = True) -> str:
    """Return the verdict by the rule above: `sure`, the effect itself; `also`, all else."""
    if not known:
        return "not run yet"
    return ("held" if also else "partly") if sure else "did not hold"


def enough(trainings: Any) -> bool:
    """Are these trainings as many as a held claim needs?"""
    return len(trainings) >= FEWEST_TRAININGS


def nearer(
    delta_e: Mapping[str, Any] | None, psnr: Mapping[str, Any] | None, many: bool | None = None
) -> str:
    """Judge "the first is nearer to the truth" by paired differences in CIEDE2000 and PSNR.

    many: are there enough trainings? None counts the seeds.
    """
    if delta_e is None or psnr is None:
        return "not run yet"
    many = enough(delta_e["seeds"]) if many is None else many
    agree = max(delta_e["seeds"]) < 0 and psnr["mean"] > 0
    return judge(True, delta_e["high"] < 0, many and agree)


def farther(
    delta_e: Mapping[str, Any] | None, psnr: Mapping[str, Any] | None, many: bool | None = None
) -> str:
    """Judge "the first is farther from the truth", as `nearer` does."""
    return nearer(turned(delta_e), turned(psnr), many)


def turned(difference: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a paired difference seen from the other side."""
    if difference is None:
        return None
    seeds = [-each for each in difference["seeds"]]
    low, high = -difference["high"], -difference["low"]
    return {"mean": -difference["mean"], "low": low, "high": high, "seeds": seeds}


def not_testable(reasons: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the claims that are not tested here, each with the reason."""
    return [record.claim(text, why, None, "not testable here") for text, why in reasons.items()]


def open_questions(lines: str, known: Mapping[str, Any], caption: str) -> None:
    """Show the table of open questions: a line each, ` | ` between cells, {names} filled in."""
    rows = [line.format(**known).split(" | ") for line in lines.strip().splitlines()]
    figures.table([dict(zip(QUESTION, row, strict=True)) for row in rows], caption=caption)
