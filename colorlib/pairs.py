"""Pairs for methods that learn from one picture: a coloured reference, and a target to colour.

A notebook brings a pair to its size: `make(name, reference, target, **more)` returns a Pair.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
    credit: str = ""
    part: str = ""  # of the embedded pairs: "choices" or "results"
    file: str | Path = ""  # of the target as it was given

    @property
    def has_truth(self) -> bool:
        """Does the target keep its colours, so that a result can be scored?"""
        return not _is_grey(self.target)


def load(
    data: str,
    wanted: Sequence[str],
    make: Callable[..., Pair],
    own: tuple[str, str] = ("", ""),
    part: str = "",
) -> tuple[list[Pair], list[str]]:
    """Return the pairs that a notebook's parameters name, and a line for each that cannot be used.

    data: "pairs", the embedded ones, or a folder of NAME_source.* with NAME_target.*; wanted: names
    or beginnings of names, empty: all; own: two files that replace all others; part: of the
    embedded pairs only "choices", those that settings are chosen on, or "results", the others.
    """
    if all(own):
        return [make(Path(own[1]).stem, *map(pictures.read_rgb, own), file=own[1])], []
    folder = datasets.find_folder(data)
    files = {path.stem: path for path in pictures.find(folder)}
    embedded, credits = folder == datasets.embedded() / "pairs", datasets.credits_of(folder)
    found, problems = [], []
    for name in _choose(files, wanted, folder.name):
        its_part = "choices" if name in datasets.CHOICES else "results"
        if embedded and part not in ("", its_part):
            continue
        paths = [files[f"{name}_source"], files[f"{name}_target"]]
        lines = filter(None, (credits.get(path.name) for path in paths))
        known = {"credit": "; ".join(dict.fromkeys(lines)), "part": its_part * embedded}
        try:
            found.append(make(name, *map(pictures.read_rgb, paths), **known, file=paths[1]))
        except (pictures.PictureError, ParameterError) as error:
            problems.append(f"left out: {error}")
    if not found:
        raise ParameterError("no pair can be used: " + ("; ".join(problems) or f"none is {part}"))
    return found, problems


def check_reference(name: str, reference: np.ndarray) -> None:
    """Refuse a reference that has no colours to give."""
    if _is_grey(reference):
        raise ParameterError(f"{name}: the reference is grey; take one with colours to give")


def credit_of(pairs: Iterable[Pair]) -> str:
    """Return whom to credit under a figure of these pairs."""
    return "; ".join(dict.fromkeys(pair.credit for pair in pairs if pair.credit))


def _is_grey(rgb: np.ndarray) -> bool:
    return bool(metrics.mean_chroma(rgb[None])[0] < metrics.GREY_CHROMA)


def _choose(stems: Collection[str], wanted: Sequence[str], where: str) -> list[str]:
    """Return the pairs that are wanted, by name or by beginning, in the order of the wish."""
    sources = [stem.removesuffix("_source") for stem in stems if stem.endswith("_source")]
    names = [name for name in sources if f"{name}_target" in stems]
    chosen: list[str] = []
    for wish in wanted or [""]:
        fitting = [wish] if wish in names else [name for name in names if name.startswith(wish)]
        if not fitting:
            there = ", ".join(names[:40]) or "no NAME_source.jpg with its NAME_target.jpg"
            raise ParameterError(f"pairs: no pair '{wish}' in {where}; there are {there}")
        chosen += fitting
    return list(dict.fromkeys(chosen))


def score(pair: Pair, painted: Mapping[str, np.ndarray], seed: int = 0) -> Scores:
    """Score every row's picture of a pair, uint8 (H, W, 3), and those of the two floors."""
    rows = {row: rgb[None] for row, rgb in painted.items()}
    found = metrics.evaluate(rows, pair.target[None], metrics.mean_ab(pair.reference[None]), seed)
    more = {"true_colourfulness": float(metrics.colourfulness(pair.target[None])[0])}
    return {
        row: {key: float(values[0]) for key, values in scores.items()} | more
        for row, scores in found.per_picture.items()
    }


def sum_up(scores: Mapping[str, Scores], seed: int = 0) -> Scores:
    """Turn pair -> row -> score into rows of metrics.json: means and intervals over pairs."""
    rows = {}
    for row in dict.fromkeys(row for found in scores.values() for row in found):
        found = [of_pair[row] for of_pair in scores.values() if row in of_pair]
        values = {key: np.array([one[key] for one in found]) for key in found[0]}
        rows[row] = metrics.summary(values, values["true_colourfulness"], seed)
    return rows
