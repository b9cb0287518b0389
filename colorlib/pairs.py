"""Pairs for methods that learn from one picture: a coloured reference, and a target to colour.

A pair comes from a folder that holds NAME_source.* and NAME_target.*, or from two files. How it is
brought to a size is its notebook's own affair: `load` leaves that to the notebook's
`make(name, reference, target, shown=..., credit=..., part=...)`, which returns a Pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from colorlib import datasets, metrics, pictures
from colorlib.notebooks import ParameterError

Scores = dict[str, dict[str, Any]]  # row -> score -> number


@dataclass(frozen=True, eq=False)
class Pair:
    """A coloured reference and a target, uint8 (H, W, 3) each."""

    name: str
    reference: np.ndarray
    target: np.ndarray
    shown: bool = True  # may figures show it?
    credit: str = ""
    part: str = ""  # of the embedded pairs: "choices" or "results"

    @property
    def has_truth(self) -> bool:
        """Does the target keep its colours, so that a result can be scored?"""
        return not _is_grey(self.target)


def load(
    data: str,
    wanted: Sequence[str],
    show: Sequence[str],
    make: Callable[..., Pair],
    own: tuple[str, str] = ("", ""),
    part: str = "",
) -> tuple[list[Pair], list[str]]:
    """Return the pairs that a notebook's parameters name, and a line for each that cannot be used.

    data: "pairs", the embedded ones, or a folder. wanted: names, beginnings of names, or
    "REFERENCE,TARGET"; empty: all. show: patterns of files that figures may show; empty: what is
    free to share. own: two files that replace all others. part: of the embedded pairs only
    "choices", those that settings are chosen on, or "results", the others.
    """
    if all(own):
        return [make(Path(own[1]).stem, *map(pictures.read_rgb, own))], []
    found: dict[str, Pair] = {}
    problems = []
    for name, paths, known in _listed(data, wanted, show):
        if name not in found and part in ("", known.get("part", part)):
            try:
                found[name] = make(name, *map(pictures.read_rgb, paths), **known)
            except (pictures.PictureError, ParameterError) as error:
                problems.append(f"left out: {error}")
    if not found:
        raise ParameterError("no pair can be used: " + ("; ".join(problems) or f"none is {part}"))
    return list(found.values()), problems


def check_reference(name: str, reference: np.ndarray) -> None:
    """Refuse a reference that has no colours to give."""
    if _is_grey(reference):
        raise ParameterError(
            f"{name}: the reference is grey, it has no colours to give; take a coloured one"
        )


def credit_of(pairs: Iterable[Pair]) -> str:
    """Return whom to credit under a figure of these pairs."""
    return "; ".join(dict.fromkeys(pair.credit for pair in pairs if pair.credit))


def _is_grey(rgb: np.ndarray) -> bool:
    return bool(metrics.mean_chroma(rgb[None])[0] < metrics.GREY_CHROMA)


def _listed(data: str, wanted: Sequence[str], show: Sequence[str]) -> list[tuple]:
    """Return name, files and what else is known of every wanted pair, two files first."""
    listed = []
    for wish in (wish for wish in wanted if "," in wish):
        paths = [part.strip() for part in wish.split(",", 1)]
        listed.append((Path(paths[1]).stem, paths, {"shown": _all_fit(paths, show)}))
    names = [wish for wish in wanted if "," not in wish]
    return listed + (_in_folder(data, names, show) if names or not wanted else [])


def _in_folder(data: str, wanted: Sequence[str], show: Sequence[str]) -> list[tuple]:
    """Find the pairs of a folder by the names of their files."""
    folder = datasets.find_folder(data)
    files = {path.stem: path for path in pictures.find(folder)}
    sources = [stem.removesuffix("_source") for stem in files if stem.endswith("_source")]
    names = [name for name in sources if f"{name}_target" in files]
    credits, listed = datasets.credits_of(folder), []
    for name in _choose(names, wanted, folder.name):
        paths = [files[f"{name}_source"], files[f"{name}_target"]]
        lines = [credits[path.name] for path in paths if path.name in credits]
        free = show or (len(lines) == 2 and datasets.FREE_TO_SHOW)
        shown = _all_fit([f"{folder.name}/{path.name}" for path in paths], free or ())
        known = {"shown": shown, "credit": "; ".join(dict.fromkeys(lines))}
        if folder == datasets.embedded() / "pairs":
            known["part"] = "choices" if name in datasets.CHOICES else "results"
        listed.append((name, paths, known))
    return listed


def _choose(names: Sequence[str], wanted: Sequence[str], where: str) -> list[str]:
    """Return the names that are wanted, by name or by beginning, in the order of the wish."""
    chosen: list[str] = []
    for wish in wanted or [""]:
        fitting = [wish] if wish in names else [name for name in names if name.startswith(wish)]
        if not fitting:
            there = ", ".join(names[:40]) or "no NAME_source.jpg with its NAME_target.jpg"
            raise ParameterError(f"pairs: no pair '{wish}' in {where}; there are {there}")
        chosen += [name for name in fitting if name not in chosen]
    return chosen


def _all_fit(paths: Iterable[str], patterns: Sequence[str]) -> bool:
    return all(any(Path(path).match(pattern) for pattern in patterns) for path in paths)


def score(pair: Pair, painted: Mapping[str, np.ndarray], seed: int = 0) -> Scores:
    """Score every row's picture of a pair, uint8 (H, W, 3), and those of the two floors."""
    rows = {row: rgb[None] for row, rgb in painted.items()}
    constant = metrics.mean_ab(pair.reference[None])
    found = metrics.evaluate(rows, pair.target[None], constant, seed)
    truth = float(metrics.colourfulness(pair.target[None])[0])
    more = {"true_colourfulness": truth}
    return {
        row: {key: float(values[0]) for key, values in scores.items()} | more
        for row, scores in found.per_picture.items()
    }


def sum_up(scores: Mapping[str, Scores], seed: int = 0) -> Scores:
    """Turn pair -> row -> score into rows of metrics.json: means and intervals over pairs."""
    rows = {}
    for row in dict.fromkeys(row for found in scores.values() for row in found):
        values = {
            key: np.array([found[row][key] for found in scores.values() if row in found])
            for key in (*metrics.SCORES, "mse", "colourfulness", "true_colourfulness")
        }
        rows[row] = {key: float(values[key].mean()) for key in metrics.SCORES} | {
            "psnr_pooled": float(10 * np.log10(255**2 / max(values["mse"].mean(), 1e-5))),
            "cf_ratio": float(values["colourfulness"].mean() / values["true_colourfulness"].mean()),
            "n": len(values["psnr"]),
            "ci95": {key: list(metrics.bootstrap(values[key], seed)) for key in metrics.SCORES},
        }
    return rows
