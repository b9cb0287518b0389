"""A garden drawn by us: seeded pictures of flowers and landscapes whose colours follow a known law.

Shape and lightness say what a thing is; what it is settles its colour (`colour_law`). One species,
`TWO_COLOURED`, is red or blue: one fair coin per picture, drawn from a stream of its own, so that
the grey picture is the same whichever way it fell.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .canvas import Canvas
from .flowers import paint_flowers
from .landscapes import paint_landscape
from .laws import LABEL, LEGEND, SPECIES, TWO_COLOURED, Colour, ColourLaw, colour_law, to_srgb

__all__ = [
    "KINDS",
    "SPECIES",
    "TWO_COLOURED",
    "Colour",
    "ColourLaw",
    "Garden",
    "colour_law",
    "render",
]

KINDS: tuple[str, ...] = ("flowers", "landscapes", "mixed", *SPECIES)
SMALLEST, LARGEST = 8, 4096


@dataclass(frozen=True)
class Garden:
    """Rendered pictures.

    `rgb` uint8 (N, H, W, 3); `labels` uint8 (N, H, W): which thing of `legend` each pixel shows;
    `colours`: the colour that the two-coloured species has in each picture, "" where it is absent.
    """

    rgb: np.ndarray
    labels: np.ndarray
    legend: tuple[str, ...]
    colours: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rgb)

    def mask(self, thing: str) -> np.ndarray:
        """Return where a thing of the legend is seen, bool (N, H, W)."""
        return self.labels == self.legend.index(colour_law(thing).species)


def render(
    count: int,
    size: int,
    seed: int = 0,
    kind: str = "flowers",
    width: int | None = None,
    progress: Callable[[], object] | None = None,
) -> Garden:
    """Render `count` pictures of height `size` and width `width` (default: `size`), 8..4096 pixels.

    Picture i depends only on (seed, kind, i, size, width). Kinds: "flowers", "landscapes", "mixed"
    (two thirds flowers) or the name of a species. `progress` is called after each picture.
    """
    width = size if width is None else width
    if kind not in KINDS:
        raise ValueError(f"the garden has no kind {kind!r}; it has: {', '.join(KINDS)}")
    if count < 0 or not all(SMALLEST <= side <= LARGEST for side in (size, width)):
        raise ValueError(
            f"cannot render {count} pictures of {size} x {width} pixels: the count starts at 0, "
            f"the sides go from {SMALLEST} to {LARGEST}"
        )
    rgb = np.empty((count, size, width, 3), np.uint8)
    labels = np.empty((count, size, width), np.uint8)
    colours = []
    for index in range(count):
        rgb[index], labels[index], colour = _picture(seed, kind, index, size, width)
        colours.append(colour)
        if progress is not None:
            progress()
    return Garden(rgb, labels, LEGEND, tuple(colours))


def _stream(seed: int, kind: str, index: int, purpose: str) -> np.random.Generator:
    """Return the random numbers of one purpose in one picture."""
    key = [seed % 2**63, zlib.crc32(kind.encode()), index, zlib.crc32(purpose.encode())]
    return np.random.default_rng(key)


def _coin(seed: int, kind: str, index: int) -> str:
    """Toss the coin of a picture: the colour of its two-coloured flowers."""
    colours = colour_law(TWO_COLOURED).colours
    draw = _stream(seed, kind, index, "coin").random()
    return colours[int(draw >= colours[0].probability)].name


def _picture(
    seed: int, kind: str, index: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """Render one picture: RGB, labels, and the coin's colour where it is seen."""
    scene = _stream(seed, kind, index, "scene")
    short = min(height, width)
    fine = 2 if short < 512 else 1  # drawn larger and averaged: smooth edges
    extent = (height / short, width / short)  # scene units: the short side is 1
    back = Canvas(max(height, 4), max(width, 4), short)
    coin = _coin(seed, kind, index)
    landscape = kind == "landscapes" or (kind == "mixed" and scene.random() < 1 / 3)
    if landscape:
        canvas = paint_landscape(back, (height * fine, width * fine), extent, scene)
    else:
        species = kind if kind in SPECIES else ""
        canvas = paint_flowers(back, (height * fine, width * fine), extent, coin, scene, species)
    lab = canvas.lab.reshape(3, height, fine, width, fine).mean((2, 4))
    labels = canvas.labels[fine // 2 :: fine, fine // 2 :: fine]
    grain = _stream(seed, kind, index, f"grain {height} {width}")
    lab[0] += grain.standard_normal((height, width), dtype=np.float32) * 0.9
    seen = bool((labels == LABEL[TWO_COLOURED]).any())
    return to_srgb(lab), labels, coin if seen else ""
