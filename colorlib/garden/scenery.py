"""What flower pictures and landscapes share: light, sky, earth, leaves, grass, trees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import CLEAR, Air, Canvas, Patch, Strokes, texture
from .laws import ramp

TURN = 2 * np.pi
UP = -np.pi / 2


@dataclass
class Light:
    """The light of a picture: where the sun stands (unit vector towards it) and how hard it is."""

    sun: tuple[float, float]
    strength: float  # 0.6 soft .. 1.3 hard

    def on(self, angle: np.ndarray) -> np.ndarray:
        """Return -1..1: how far a petal that points along `angle` faces the sun."""
        return np.cos(angle) * self.sun[0] + np.sin(angle) * self.sun[1]

    def across(self, angle: np.ndarray) -> np.ndarray:
        """Return -1..1: how far the side of a petal faces the sun."""
        return np.cos(angle) * self.sun[1] - np.sin(angle) * self.sun[0]


def leaves(
    canvas: Canvas,
    count: int,
    box: tuple[float, float, float, float],
    size: float,
    light: float,
    lit: Light,
    random: np.random.Generator,
    air: Air = CLEAR,
    spread: float = 10.0,
) -> None:
    """Scatter broad leaves over a box (left, top, right, bottom)."""
    angle = random.uniform(0, TURN, count)
    length = size * random.uniform(0.6, 1.25, count)
    strokes = Strokes(
        random.uniform(box[0], box[2], count),
        random.uniform(box[1], box[3], count),
        angle,
        length,
        length * random.uniform(0.2, 0.36, count),
        "leaf",
        light=light + random.normal(0, spread, count),
        tip=3,
        side=7 * lit.strength * lit.across(angle),
        rim=3,
        fold=7,
        vein=1.5,
        veins=6,
        bend=random.normal(0, 0.12, count),
        shadow=0.22,
    )
    canvas.scatter(strokes, "foliage", air=air)


def grass(
    canvas: Canvas,
    count: int,
    box: tuple[float, float, float, float],
    size: float,
    light: float,
    lit: Light,
    random: np.random.Generator,
    air: Air = CLEAR,
) -> None:
    """Scatter upright blades that root within a box, the far ones first."""
    y = np.sort(random.uniform(box[1], box[3], count))
    near = (y - box[1]) / max(box[3] - box[1], 1e-6)
    length = size * random.uniform(0.6, 1.2, count) * (0.45 + 0.55 * near)
    strokes = Strokes(
        random.uniform(box[0], box[2], count),
        y,
        UP + random.normal(0, 0.3, count),
        length,
        length * 0.06 + 0.004,
        "blade",
        light=light + random.normal(0, 6, count),
        tip=9,
        side=5 * lit.sun[0],
        rim=2,
        bend=random.normal(0, 0.25, count),
        shadow=0.05,
    )
    canvas.scatter(strokes, "foliage", air=air)


def paint_sky(
    canvas: Canvas,
    horizon: float,
    random: np.random.Generator,
    cloudy: float,
    evening: bool = False,
) -> None:
    """Fill the canvas with sky above `horizon` (scene y), and clouds (`cloudy` 0 .. 1)."""
    height, width = canvas.height, canvas.width
    rise = np.clip(1 - canvas.rows / max(horizon, 0.05), 0, 1)
    light = 82 - 44 * rise**0.75 if evening else 90 - 26 * rise**0.8
    thing = "evening sky" if evening else "sky"
    light = np.broadcast_to(light, (height, width)).astype(np.float32)
    canvas.paint(np.ones((height, width), np.float32), light, thing)
    if cloudy <= 0:
        return
    columns = max(int(2 * width / height), 1)
    flat = 8 if evening else 4
    puff = texture(height, width, flat, columns, 4, random) + cloudy * 1.6 - 1.2
    cover = np.clip(puff * 1.1, 0, 1) * np.clip(rise * 4, 0, 1)
    below = np.clip(puff - np.roll(puff, -max(height // 16, 1), axis=0), -1, 1)
    if evening:
        canvas.paint(cover * 0.8, light + 9 * below + 5, thing)
    else:
        canvas.paint(cover, 93 + 7 * below - 3 * np.clip(puff, 0, 2), "cloud")


def paint_soil(canvas: Canvas, top: float, random: np.random.Generator) -> None:
    """Fill the canvas below `top` (scene y) with crumbly earth."""
    height, width = canvas.height, canvas.width
    edge = top + 0.02 * texture(1, width, 1, 5, 2, random)
    cover = np.clip((canvas.rows - edge) * canvas.unit + 0.5, 0, 1)
    crumbs = texture(height, width, 12, 12 * max(width // height, 1), 2, random)
    canvas.paint(cover, 36 + 5 * crumbs + 10 * (canvas.rows - top), "soil")


def fill(
    canvas: Canvas,
    edge: np.ndarray,
    light: np.ndarray,
    thing: str,
    air: Air = CLEAR,
    soft: float = 1.0,
) -> None:
    """Fill the canvas below an edge (scene y, shape (1, W) or a number) with a thing of given L."""
    cover = np.clip((canvas.rows - edge) * (canvas.unit / soft) + 0.5, 0, 1)
    shape = (canvas.height, canvas.width)
    canvas.paint(np.broadcast_to(cover, shape), np.broadcast_to(light, shape), thing, None, air)


def relief(noise: np.ndarray, lit: Light, step: int) -> np.ndarray:
    """Return how brightly a surface of given heights is lit, about -1..1."""
    across = 1 if lit.sun[0] > 0 else -1
    height, width = noise.shape
    rows = np.minimum(np.arange(height) + step, height - 1)
    columns = np.clip(np.arange(width) - across * step, 0, width - 1)
    drop = noise - noise[np.ix_(rows, columns)]
    return np.clip(drop * 2.2, -1.2, 1.2)


def firs(
    canvas: Canvas,
    x: np.ndarray,
    foot: np.ndarray,
    size: np.ndarray,
    lit: Light,
    light: float,
    random: np.random.Generator,
    air: Air = CLEAR,
) -> None:
    """Plant firs with their feet at (x, foot)."""
    count = len(x)
    trees = Strokes(
        x,
        foot,
        UP,
        size,
        size * random.uniform(0.2, 0.27, count),
        "fir",
        light=light + random.normal(0, 2.5, count),
        tip=3,
        side=8 * lit.sun[0] * lit.strength,
        rim=0,
        vein=2,
        veins=7,
        shadow=0.15,
    )
    canvas.scatter(trees, "forest", air=air)


def tree(
    canvas: Canvas,
    x: float,
    foot: float,
    size: float,
    thing: str,
    light: float,
    lit: Light,
    random: np.random.Generator,
    air: Air = CLEAR,
) -> None:
    """Plant a broad tree of height `size`: a trunk, a crown of leaf clusters lit by the sun."""
    canvas.shade(x - 0.25 * size * lit.sun[0], foot, 0.5 * size, 0.35, 0.22)
    trunk = Strokes(x, foot, UP, 0.5 * size, 0.045 * size, "line", light=30, side=7 * lit.sun[0])
    canvas.scatter(trunk, "trunk", air=air)
    crown = Patch(canvas, x, foot - 0.64 * size, 0.4 * size, reach=1.25, air=air)
    count = 34
    angle, far = random.uniform(0, TURN, count), 0.8 * np.sqrt(random.uniform(0, 1, count))
    cx, cy = far * np.cos(angle), 0.85 * far * np.sin(angle)
    facing = cx * lit.sun[0] + cy * lit.sun[1]
    order = np.argsort(facing)
    r = random.uniform(0.2, 0.38, count)
    clusters = Strokes(
        (cx - r)[order],
        cy[order],
        0.0,
        (2 * r)[order],
        r[order],
        "disc",
        light=(light + 13 * lit.strength * facing + random.normal(0, 2, count))[order],
        tip=4 * lit.sun[0],
        side=-6 * -lit.sun[1] * lit.strength,
        rim=4,
        vein=2,
        veins=8,
        crumple=0.1,
        shadow=0.1,
    )
    crown.strokes(clusters, thing, ramp(thing))
