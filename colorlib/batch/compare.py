"""Runs held against each other: mine and the committed one, and those that differ in their seed."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from colorlib import files, notebooks
from colorlib.batch import stamps
from colorlib.batch.run import Run

# metric: largest difference on the same processor and thread count, and elsewhere
TOLERANCES: dict[str, tuple[float, float]] = {
    "psnr": (0.3, 1.0),  # dB; training amplifies rounding, and other processors round otherwise
    "psnr_pooled": (0.3, 1.0),
    "gain_over_grey": (0.3, 1.0),
    "ssim": (0.01, 0.03),  # moves about 0.02 for 1 dB
    "cf_ratio": (0.1, 0.3),  # drifts most in adversarial training
    "delta_e": (0.5, 1.5),  # CIEDE2000; half of what an eye just notices, or noticeable
    "n": (0, 0),
}
ENOUGH = 5  # seeds whose spread takes the place of the second number, where they are committed
FLOOR_SHARE = 0.1  # nothing is trained there: only decoding and rounding differ
FITS, MISFITS = ("identical", "within tolerance"), ("outside", "other pictures")
SUMMARY = "summary.json"  # of the seeds of a sweep, beside their reports
ROUNDING = ("device", "cpu", "gpu", "threads", "versions")  # of run.json's machine: how sums round


def compare(
    profile: str, names: Sequence[str] = (), against: str = "HEAD"
) -> list[tuple[str, str, str]]:
    """Compare my runs with those committed in `against`: name, verdict (or why none), note."""
    wanted = [notebooks.full_name(name) for name in names] or notebooks.names()
    return [(name, *_compare_one(name, profile, against)) for name in wanted]


def good(comparisons: list[tuple[str, str, str]]) -> bool:
    """Say whether something was compared and all of it fits."""
    judged = {verdict for _, verdict, _ in comparisons} & {*FITS, *MISFITS}
    return bool(judged) and judged <= {*FITS}


def _compare_one(name: str, profile: str, against: str) -> tuple[str, str]:
    if not (committed := committed_json(profile, name, "metrics.json", against)):
        return "not committed", f"no metrics in {against} for profile {profile}"
    reports = files.root() / "reports"
    tree, local = reports / profile / name, reports / "local" / name
    mine = local if stamps.changes(tree, {}) else tree  # played in Jupyter, or it ran here
    metrics, run = files.read_json(mine / "metrics.json"), files.read_json(mine / "run.json")
    if metrics.get("profile") != profile:
        return "not run here", f"run it: colorlib run {name} --profile {profile}"
    other = other_machine(run, committed_json(profile, name, "run.json", against))
    seeds = committed_json(f"seeds/{profile}", f"{name}/default", SUMMARY, against)
    widths = seeds["results"] if len(seeds.get("seeds", ())) >= ENOUGH else {}
    verdict, note = judge(metrics, committed, near=not other, widths=widths)
    return verdict, f"{other or 'same kind of machine'}; {note}"


def committed_json(profile: str, name: str, file: str, against: str) -> dict[str, Any]:
    """Read a file of a committed report; {} when there is none, or no git."""
    place = f"{against}:./reports/{profile}/{name}/{file}"
    return json.loads(files.git(files.root(), "show", "--end-of-options", place) or "{}")


def other_machine(mine: dict[str, Any], committed: dict[str, Any]) -> str:
    """Name what differs between the machines of two runs; "" where both round alike."""
    ours, theirs = mine.get("machine", {}), committed.get("machine", {})
    differing = [key for key in ROUNDING if ours.get(key) != theirs.get(key)]
    return f"other {', '.join(differing)}" if differing else ""


def judge(
    mine: dict[str, Any], committed: dict[str, Any], near: bool = False, widths: dict | None = None
) -> tuple[str, str]:
    """Hold the rows of two metrics.json against each other; return the verdict and a note.

    widths: of rows and metrics, how far apart two runs of other seeds lie: another machine's too.
    """
    if mine["data"] != committed["data"]:
        return "other pictures", f"{mine['data']}, committed {committed['data']}"
    ours, theirs = mine["results"], committed["results"]
    if not theirs:
        return "no numbers", "the committed run scores nothing"
    if missing := theirs.keys() - ours.keys():
        return "outside", f"rows missing here: {', '.join(sorted(missing))}"
    if ours == theirs:
        return "identical", "to the last digit"
    used = [_farthest(row, ours[row], theirs[row], near, widths or {}) for row in theirs]
    used.sort(reverse=True)
    if outside := [words for share, words in used if share > 1]:
        return "outside", "; ".join(outside[:3])
    return "within tolerance", f"farthest: {used[0][1]}"


def _farthest(row: str, ours: dict, theirs: dict, near: bool, widths: dict) -> tuple[float, str]:
    """Return which share of its tolerance a row's worst metric uses, and that metric in words."""
    found, spread = [], {} if near or row in files.FLOORS else widths.get(row, {})
    for metric, (close, far) in TOLERANCES.items():
        limit, of = (close if near else far) * (FLOOR_SHARE if row in files.FLOORS else 1), ""
        if metric in spread:  # the same in all seeds may still be rounded otherwise
            limit, of = max(spread[metric]["width"], far * FLOOR_SHARE), ", the spread of seeds"
        mine, committed = ours[metric], theirs[metric]
        words = f"{row} {metric} {mine:.4g}, committed {committed:.4g} (± {limit:.2g}{of})"
        found.append((abs(mine - committed) / (limit + 1e-9), words))
    return max(found)


def summarize(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """Write a summary beside the reports of each variant of a sweep; return a line for each."""
    lines, groups = [], {}
    for run in runs:
        groups.setdefault(run.task.report.parent, []).append(run)
    for folder, some in groups.items():
        task, whole = some[0].task, [run.task.report for run in some if run.good]
        rows = _rows(whole)
        own = {k: v for k, v in task.parameters.items() if k not in ("seed", "profile")}
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
