"""My run against the committed one, metric by metric, within stated tolerances."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from colorlib import files, notebooks
from colorlib.files import read_json

# metric: largest difference on the same processor and thread count, elsewhere; why
TOLERANCES: dict[str, tuple[float, float, str]] = {
    "psnr": (0.3, 1.0, "dB; training amplifies rounding: other processors round sums otherwise"),
    "psnr_pooled": (0.3, 1.0, "dB; as psnr, and one picture weighs more"),
    "ssim": (0.01, 0.03, "moves about 0.02 for 1 dB"),
    "cf_ratio": (0.1, 0.3, "how strong the colours are drifts most in adversarial training"),
    "delta_e": (0.5, 1.5, "CIEDE2000; half of what an eye just notices, or noticeable"),
    "gain_over_grey": (0.3, 1.0, "dB; as psnr: the grey floor itself does not move"),
    "n": (0, 0, "the same pictures must be scored"),
}
FLOOR_SHARE = 0.1  # nothing is trained there: only decoding and rounding differ
COMPARED = ("identical", "within tolerance", "outside", "other pictures")
ROUNDING = ("device", "cpu", "gpu", "threads", "versions")  # of run.json's machine: how sums round


class Comparison(NamedTuple):
    """What came of one notebook."""

    name: str
    verdict: str  # one of COMPARED, or why nothing was compared
    note: str = ""


def compare(
    profile: str, names: Sequence[str] = (), mine: str | Path = "", against: str = "HEAD"
) -> list[Comparison]:
    """Compare my runs of a profile with those committed in `against`; `mine`: see `my_report`."""
    wanted = [notebooks.full_name(name) for name in names] or notebooks.names()
    return [_compare_one(name, profile, mine, against) for name in wanted]


def _compare_one(name: str, profile: str, mine: str | Path, against: str) -> Comparison:
    committed = committed_json(profile, name, "metrics.json", against)
    if not committed:
        return Comparison(name, "not committed", f"no metrics in {against} for profile {profile}")
    folder = my_report(name, profile, mine)
    if folder is None:
        mend = f"run it: colorlib run {name} --profile {profile}"
        return Comparison(name, "not run here", f"no metrics of {name} in {mine}" if mine else mend)
    theirs = committed_json(profile, name, "run.json", against)
    other = other_machine(read_json(folder / "run.json"), theirs)
    verdict, note = judge(read_json(folder / "metrics.json"), committed, near=not other)
    if verdict in ("within tolerance", "outside"):
        note = f"{other or 'same kind of machine'}; {note}".rstrip("; ")
    return Comparison(name, verdict, note)


def my_report(name: str, profile: str, mine: str | Path = "") -> Path | None:
    """Find my run of a notebook: in a folder of reports, else fresh in the tree, else in local."""
    if mine:
        given = Path(mine).expanduser()
        found = (given, given / name, given / profile / name)
        named = (f for f in found if read_json(f / "metrics.json").get("notebook") == name)
        return next(named, None)
    reports = files.root() / "reports"
    fresh, local = reports / profile / name, reports / "local" / name
    if (fresh / ".stamp.json").exists() and (fresh / "metrics.json").exists():
        return fresh
    return local if read_json(local / "metrics.json").get("profile") == profile else None


def committed_json(profile: str, name: str, file: str, against: str) -> dict[str, Any]:
    """Read a file of a committed report; {} when there is none, or no git."""
    place = f"{against}:./reports/{profile}/{name}/{file}"
    try:
        return json.loads(files.git(files.root(), "show", "--end-of-options", place))
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}


def other_machine(mine: dict[str, Any], committed: dict[str, Any]) -> str:
    """Name what differs between the machines of two runs; "" where both round alike."""
    ours, theirs = (run.get("machine") or {} for run in (mine, committed))
    if not (ours and theirs):
        return "unknown machine"
    differing = ", ".join(key for key in ROUNDING if ours.get(key) != theirs.get(key))
    return differing and f"other {differing}"


def judge(mine: dict[str, Any], committed: dict[str, Any], near: bool = False) -> tuple[str, str]:
    """Hold the rows of two metrics.json against each other; return the verdict and a note."""
    own, theirs = mine.get("data", {}), committed.get("data", {})
    for key in ("name", "train", "test", "excluded_grey"):
        if own.get(key) != theirs.get(key):
            return "other pictures", f"data {key}: {own.get(key)}, committed {theirs.get(key)}"
    ours, reference = mine.get("results", {}), committed.get("results", {})
    if not reference:
        return "no numbers", "the committed run scores nothing"
    if missing := [row for row in reference if row not in ours]:
        return "outside", f"rows missing here: {', '.join(missing)}"
    if ours == reference:
        return "identical", "to the last digit"
    used = sorted((_used(ours[row], reference[row], row, near) for row in reference), reverse=True)
    outside = [words for share, words in used if share > 1]
    if not outside:
        return "within tolerance", f"farthest: {used[0][1]}"
    more = f" and {len(outside) - 3} more rows" if len(outside) > 3 else ""
    return "outside", "; ".join(outside[:3]) + more


def _used(ours: dict[str, Any], theirs: dict[str, Any], row: str, near: bool) -> tuple[float, str]:
    """Return which share of its tolerance a row's worst metric uses, and that metric in words."""
    found = []
    for metric, (close, far, _) in TOLERANCES.items():
        limit = (close if near else far) * (FLOOR_SHARE if row in files.FLOORS else 1)
        both = [scores.get(metric, math.nan) for scores in (ours, theirs)]
        share = abs(both[0] - both[1]) / (limit + 1e-9)
        share = math.inf if math.isnan(share) else share
        words = ", committed ".join(f"{value:.4g}" for value in both)
        found.append((share, f"{row} {metric} {words} (± {limit:.2g})"))
    return max(found)


def table(comparisons: list[Comparison]) -> str:
    """Lay the verdicts out as text."""
    width = max((len(c.name) for c in comparisons), default=0)
    states = max((len(c.verdict) for c in comparisons), default=0)
    lines = [f"{c.name:<{width}}  {c.verdict:<{states}}  {c.note}".rstrip() for c in comparisons]
    compared = any(c.verdict in COMPARED for c in comparisons)
    return "\n".join(lines if compared else [*lines, "nothing to compare"])


def good(comparisons: list[Comparison]) -> bool:
    """Say whether something was compared and all of it fits."""
    judged = [c.verdict for c in comparisons if c.verdict in COMPARED]
    return bool(judged) and set(judged) <= {"identical", "within tolerance"}
