"""Runs that differ in their seed: their mean, their spread, and how far apart two of them lie."""

import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from colorlib import files, notebooks
from colorlib.batch.compare import TOLERANCES
from colorlib.batch.run import Run

HEAD = ("notebook", "parameters", "seeds", "gain over grey, dB", "CIEDE2000")
SUMMARY = "summary.json"


def summarize(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """Write a summary beside the reports of each variant of a sweep; return a line for each."""
    lines = []
    for folder, group in itertools.groupby(runs, key=lambda run: run.task.report.parent):
        some = [*group]
        task, whole = some[0].task, [run.task.report for run in some if run.good]
        rows = _rows(whole)
        own = {
            key: value for key, value in task.parameters.items() if key not in ("seed", "profile")
        }
        seeds = [int(report.name.removeprefix("seed-")) for report in whole]
        about = {"notebook": task.name, "profile": task.profile, "parameters": own, "seeds": seeds}
        memory = [files.read_json(report / "run.json").get("memory_mib", {}) for report in whole]
        about["memory_mib"] = max((each.get("host", 0) for each in memory), default=0)  # a kernel's
        if whole:
            files.write_json(folder / SUMMARY, {**about, "results": rows})
        main = rows.get(notebooks.main_row(task.name), {})
        told = [_words(main.get(metric)) for metric in ("gain_over_grey", "delta_e")]
        lines.append((task.name, folder.name, f"{len(whole)} of {len(some)}", *told))
    return lines


def _rows(reports: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Return mean, standard deviation and width of every metric of every row that all have."""
    found = [files.read_json(report / "metrics.json").get("results", {}) for report in reports]
    common = [row for row in (found[0] if found else ()) if all(row in each for each in found)]
    return {
        row: {metric: _spread([each[row][metric] for each in found]) for metric in TOLERANCES}
        for row in common
    }


def _spread(values: list[float]) -> dict[str, float | None]:
    """Width: within it lie 19 of 20 pairs of runs, where runs spread as the normal law does."""
    from scipy import stats

    if len(values) < 2:
        return {"mean": values[0], "sd": None, "width": None}
    sd = statistics.stdev(values)
    width = float(stats.t.ppf(0.975, len(values) - 1)) * sd * 2**0.5
    return {"mean": statistics.fmean(values), "sd": sd, "width": width}


def _words(found: dict[str, Any] | None) -> str:
    if not found:
        return "–"
    return f"{found['mean']:.2f}" + (f" ± {found['sd']:.2f}" if found["sd"] is not None else "")
