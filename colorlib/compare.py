"""My run against the committed one, metric by metric, within stated tolerances."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
GOOD = ("identical", "within tolerance")
ROUNDING = ("device", "cpu", "gpu", "threads", "versions")  # of run.json's machine: how sums round


@dataclass
class Difference:
    """One metric of one row, mine and the committed one."""

    row: str
    metric: str
    mine: float | None
    committed: float | None
    tolerance: float

    @property
    def fits(self) -> bool:
        """True when both are there and close enough, or both are missing."""
        if self.mine is None or self.committed is None:
            return self.mine is self.committed
        return abs(self.mine - self.committed) <= self.tolerance + 1e-12


@dataclass
class Comparison:
    """What came of one notebook."""

    name: str
    verdict: str  # identical, within tolerance, outside, other pictures, not run here, ...
    note: str = ""
    differences: list[Difference] = field(default_factory=list)


def compare(
    profile: str = "laptop",
    names: list[str] | tuple[str, ...] = (),
    mine: str | Path = "",
    against: str = "HEAD",
) -> list[Comparison]:
    """Compare my runs of a profile with those committed in `against`, notebook by notebook.

    Args:
        mine: a report folder, or one that holds report folders; "" takes this checkout's own run
            in reports/PROFILE, else what was played into reports/local.
    """
    if profile not in notebooks.PROFILES:
        known = ", ".join(notebooks.PROFILES)
        raise notebooks.NotebookError(f"unknown profile '{profile}'; known: {known}")
    wanted = [notebooks.full_name(name) for name in names] or notebooks.names()
    return [_compare_one(name, profile, mine, against) for name in wanted]


def _compare_one(name: str, profile: str, mine: str | Path, against: str) -> Comparison:
    committed = committed_json(profile, name, "metrics.json", against)
    if committed is None:
        return Comparison(name, "not committed", f"no metrics in {against} for profile {profile}")
    folder = my_report(name, profile, mine)
    if folder is None:
        mend = f"run it: colorlib run {name} --profile {profile}"
        note = f"no metrics of {name} in {mine}" if mine else mend
        return Comparison(name, "not run here", note)
    own_run = read_json(folder / "run.json")
    their_run = committed_json(profile, name, "run.json", against) or {}
    other = other_machine(own_run, their_run)
    result = judge(name, read_json(folder / "metrics.json"), committed, near=not other)
    if result.verdict in ("within tolerance", "outside"):
        result.note = f"{other or 'same kind of machine'}; {result.note}".rstrip("; ")
    return result


def my_report(name: str, profile: str, mine: str | Path = "") -> Path | None:
    """Find my run of a notebook: where it is said to be, else fresh in the tree, else in local."""
    if mine:
        given = Path(mine).expanduser()
        found = [given, given / name, given / profile / name]
        fits = [p for p in found if read_json(p / "metrics.json").get("notebook") == name]
        return fits[0] if fits else None
    reports = files.root() / "reports"
    fresh, local = reports / profile / name, reports / "local" / name
    if (fresh / ".stamp.json").exists() and (fresh / "metrics.json").exists():
        return fresh
    played = read_json(local / "metrics.json")
    return local if played.get("profile") == profile else None


def committed_json(profile: str, name: str, file: str, against: str) -> dict[str, Any] | None:
    """Read a file of a committed report; None when there is none, or no git."""
    place = f"{against}:./reports/{profile}/{name}/{file}"
    try:
        return json.loads(files.git(files.root(), "show", place))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def other_machine(mine: dict[str, Any], committed: dict[str, Any]) -> str:
    """Name what differs between the machines of two runs; "" where both round alike."""
    ours, theirs = (run.get("machine") or {} for run in (mine, committed))
    if not (ours and theirs):
        return "unknown machine"
    differing = [key for key in ROUNDING if ours.get(key) != theirs.get(key)]
    return f"other {', '.join(differing)}" if differing else ""


def judge(
    name: str, mine: dict[str, Any], committed: dict[str, Any], near: bool = False
) -> Comparison:
    """Hold the rows of two metrics.json against each other."""
    own, theirs = mine.get("data", {}), committed.get("data", {})
    for key in ("name", "train", "test", "excluded_grey"):
        if own.get(key) != theirs.get(key):
            text = f"data {key}: {own.get(key)}, committed {theirs.get(key)}"
            return Comparison(name, "other pictures", text)
    ours, reference = mine.get("results", {}), committed.get("results", {})
    missing = [row for row in reference if row not in ours]
    found = [
        Difference(row, metric, ours[row].get(metric), reference[row].get(metric), limit)
        for row in reference
        if row in ours
        for metric, limit in _limits(row, near).items()
    ]
    if not reference:
        verdict, note = "no numbers", "the committed run scores nothing"
    elif missing:
        verdict, note = "outside", f"rows missing here: {', '.join(missing)}"
    elif outside := [d for d in found if not d.fits]:
        verdict, note = "outside", "; ".join(map(describe, outside[:3]))
        note += f" and {len(outside) - 3} more" if len(outside) > 3 else ""
    else:
        verdict = "identical" if ours == reference else "within tolerance"
        note = "to the last digit" if verdict == "identical" else _largest(found)
    return Comparison(name, verdict, _with_claims(note, mine, committed), found)


def _limits(row: str, near: bool) -> dict[str, float]:
    share = FLOOR_SHARE if row in files.FLOORS else 1.0
    return {metric: share * (t[0] if near else t[1]) for metric, t in TOLERANCES.items()}


def describe(difference: Difference) -> str:
    """Say one difference in words."""
    mine, theirs = (
        "none" if v is None else f"{v:.4g}" for v in (difference.mine, difference.committed)
    )
    return (
        f"{difference.row} {difference.metric} {mine}, committed {theirs} "
        f"(± {difference.tolerance:.2g})"
    )


def _largest(found: list[Difference]) -> str:
    """Name the difference that uses most of its tolerance."""
    both = [d for d in found if d.mine is not None and d.committed is not None and d.tolerance]
    if not both:
        return ""
    worst = max(both, key=lambda d: abs(d.mine - d.committed) / d.tolerance)
    return f"farthest: {describe(worst)}"


def _with_claims(note: str, mine: dict[str, Any], committed: dict[str, Any]) -> str:
    """Add the claims whose verdict is another here: worth knowing, no failure."""
    before = {c.get("claim"): c.get("verdict") for c in committed.get("claims", [])}
    now = {c.get("claim"): c.get("verdict") for c in mine.get("claims", [])}
    moved = sum(now[text] != verdict for text, verdict in before.items() if text in now)
    return f"{note}; {moved} claims judged otherwise" if moved else note


def table(comparisons: list[Comparison]) -> str:
    """Lay the verdicts out as text."""
    width = max((len(c.name) for c in comparisons), default=0)
    states = max((len(c.verdict) for c in comparisons), default=0)
    lines = [f"{c.name:<{width}}  {c.verdict:<{states}}  {c.note}".rstrip() for c in comparisons]
    compared = [c for c in comparisons if c.verdict in (*GOOD, "outside", "other pictures")]
    if not compared:
        lines.append("nothing to compare")
    return "\n".join(lines)


def tolerances() -> str:
    """Lay the tolerances and their reasons out as text."""
    lines = ["largest difference on the same kind of machine, on another, why:"]
    lines += [f"  {m:<15} {near:<5} {far:<5} {why}" for m, (near, far, why) in TOLERANCES.items()]
    lines.append(f"  {' and '.join(files.FLOORS)}: a tenth of these")
    return "\n".join(lines)


def good(comparisons: list[Comparison]) -> bool:
    """True when something was compared and all of it fits."""
    judged = [c for c in comparisons if c.verdict in (*GOOD, "outside", "other pictures")]
    return bool(judged) and all(c.verdict in GOOD for c in judged)
