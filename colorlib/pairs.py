"""Pairs for methods that learn from one picture: a coloured reference, and a target to colour.

A pair comes from the embedded photos, from a folder that holds NAME_source.* and NAME_target.*, or
from two files. How it is brought to a size is its notebook's own affair: `load` leaves that to the
notebook's `make(name, reference, target, shown=..., credit=..., stereo=...)`, which returns a Pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from colorlib import datasets, files, metrics, pictures
from colorlib.notebooks import ParameterError

HALVES = ["flower", "coffee", "china", "chelsea", "rocket", "ihc"]  # photos whose halves look alike
STEREO = {"motorcycle": ("motorcycle_left", "motorcycle_right")}
CREDITS = {  # of the real pairs that may be shown
    "gt_dandelion": "Leo-setä (Flickr), CC BY 2.0",
    "gt_sunflower1": "Bosque Village (Flickr), CC BY 2.0",
    "gt_sunflower2": "Mike Mozart (Flickr), CC BY 2.0",
}

Scores = dict[str, dict[str, Any]]  # row -> score -> number


@dataclass(frozen=True, eq=False)
class Pair:
    """A coloured reference and a target, uint8 (H, W, 3) each."""

    name: str
    reference: np.ndarray
    target: np.ndarray
    shown: bool = True  # may figures show it?
    credit: str = ""
    stereo: bool = False  # one scene from two sides

    @property
    def has_truth(self) -> bool:
        """Does the target keep its colours, so that a result can be scored?"""
        return not _is_grey(self.target)


@dataclass(frozen=True)
class _Files:
    """A pair that is still to be read: reference and target."""

    name: str
    paths: tuple[str | Path, str | Path]
    shown: bool
    credit: str = ""


# ------------------------------------------------------------------------------------- loading


def load(
    data: str,
    wanted: Sequence[str],
    show: Sequence[str],
    make: Callable[..., Pair],
    own: tuple[str, str] = ("", ""),
    drawn: Mapping[str, Callable[[], Iterable[np.ndarray]]] | None = None,
) -> tuple[list[Pair], list[str]]:
    """Return the pairs that a notebook's parameters name, and a line for each that cannot be used.

    data: "photos", or a folder, here or in the data folder. wanted: names, beginnings of names, or
    "REFERENCE,TARGET"; empty: all. show: patterns of files that figures may show; empty: what is
    free to share. own: two files that replace all others. drawn: more pairs beside the photos.
    """
    if all(own):
        return [make(Path(own[1]).stem, *map(pictures.read_rgb, own))], []
    names = [wish for wish in wanted if "," not in wish]
    on_disk = [_two_files(wish, show) for wish in wanted if "," in wish]
    embedded = []
    if (names or not wanted) and data == "photos":
        embedded = _embedded(names, make, drawn or {})
    elif names or not wanted:
        on_disk += _in_folder(data, names, show)
    found, problems = _read(on_disk, make)
    found += embedded
    if not found:
        raise ParameterError("no pair can be used: " + "; ".join(problems))
    return _with_different_names(found), problems


def check_reference(name: str, reference: np.ndarray) -> None:
    """Refuse a reference that has no colours to give."""
    if _is_grey(reference):
        raise ParameterError(
            f"{name}: the reference is grey, it has no colours to give; take a coloured one"
        )


def _is_grey(rgb: np.ndarray) -> bool:
    return bool(metrics.mean_chroma(rgb[None])[0] < metrics.GREY_CHROMA)


def _choose(names: Sequence[str], wanted: Sequence[str], where: str) -> list[str]:
    """Return the names that are wanted, by name or by beginning, in the order of the wish."""
    chosen: list[str] = []
    for wish in wanted or [""]:
        fitting = [wish] if wish in names else [name for name in names if name.startswith(wish)]
        if not fitting:
            known = ", ".join(names[:40])
            raise ParameterError(f"pairs: no pair '{wish}' in {where}; there are {known}")
        chosen += [name for name in fitting if name not in chosen]
    return chosen


def _embedded(names: Sequence[str], make: Callable[..., Pair], drawn: Mapping) -> list[Pair]:
    """Make pairs that need no download: halves of a photo, the stereo pair, or drawn ones."""
    found = []
    for name in _choose([*HALVES, *drawn, *STEREO], names, "the embedded pairs"):
        if name in drawn:
            found.append(make(name, *drawn[name]()))
        elif name in STEREO:
            credit = datasets.PHOTOS[STEREO[name][0]].credit
            found.append(make(name, *map(datasets.photo, STEREO[name]), credit=credit, stereo=True))
        else:
            whole = datasets.photo(name)
            middle = whole.shape[1] // 2
            credit = datasets.PHOTOS[name].credit
            found.append(make(name, whole[:, :middle], whole[:, middle:], credit=credit))
    return found


def _in_folder(name: str, wanted: Sequence[str], show: Sequence[str]) -> list[_Files]:
    """Find the pairs of a folder by the names of their files."""
    places = (Path(name).expanduser(), files.data_root() / name)
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        raise ParameterError(
            f"data = '{name}': no such folder here or in the data folder; "
            "put pairs there as NAME_source.jpg and NAME_target.jpg"
        )
    halves: dict[str, dict[str, Path]] = {"source": {}, "target": {}}
    for path in pictures.find(folder):  # says in one line what is wrong with a folder
        stem, _, half = path.stem.rpartition("_")
        if half in halves:
            halves[half][stem] = path
    both = {
        stem: (halves["source"][stem], halves["target"][stem])
        for stem in sorted(halves["source"].keys() & halves["target"].keys())
    }
    if not both:
        raise ParameterError(
            f"{folder.name}: holds no pair; name pictures NAME_source.jpg and NAME_target.jpg"
        )
    return [
        _Files(
            stem,
            both[stem],
            _may_show([f"{folder.name}/{path.name}" for path in both[stem]], show),
            CREDITS.get(stem, ""),
        )
        for stem in _choose(list(both), wanted, folder.name)
    ]


def _two_files(wish: str, show: Sequence[str]) -> _Files:
    reference, target = (part.strip() for part in wish.split(",", 1))
    return _Files(Path(target).stem, (reference, target), _may_show([reference, target], show))


def _may_show(names: Iterable[str], patterns: Sequence[str]) -> bool:
    """Say whether all names fit one of the patterns; none given: what is free to share."""
    patterns = patterns or datasets.FREE_TO_SHOW
    return all(any(Path(name).match(pattern) for pattern in patterns) for name in names)


def _read(listed: Iterable[_Files], make: Callable[..., Pair]) -> tuple[list[Pair], list[str]]:
    """Read pairs; one that cannot be used costs a line, not the run."""
    found, problems = [], []
    for pair in listed:
        try:
            both = map(pictures.read_rgb, pair.paths)
            found.append(make(pair.name, *both, shown=pair.shown, credit=pair.credit))
        except (pictures.PictureError, ParameterError) as error:
            problems.append(f"left out: {error}")
    return found, problems


def _with_different_names(found: list[Pair]) -> list[Pair]:
    """Number the pairs whose name an earlier one has."""
    names = [pair.name for pair in found]
    return [
        replace(pair, name=f"{pair.name}-{i}") if pair.name in names[:i] else pair
        for i, pair in enumerate(found)
    ]


def credit_of(pairs: Iterable[Pair]) -> str:
    """Return whom to credit under a figure of these pairs."""
    return "; ".join(dict.fromkeys(pair.credit for pair in pairs if pair.credit))


# ------------------------------------------------------------------------------------- scoring


def score(pair: Pair, painted: Mapping[str, np.ndarray], seed: int = 0) -> Scores:
    """Score every row's picture of a pair, uint8 (H, W, 3), and those of the two floors."""
    rows = {row: rgb[None] for row, rgb in painted.items()}
    constant = metrics.mean_ab(pair.reference[None])
    found = metrics.evaluate(rows, pair.target[None], constant, seed)
    truth = float(metrics.colourfulness(pair.target[None])[0])
    return {
        row: {key: float(values[0]) for key, values in scores.items()}
        | {"true_colourfulness": truth}
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
