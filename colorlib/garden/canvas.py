"""A canvas in Lab and the garden's one brush: strokes (petals, leaves, trees) with soft edges."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter

from .laws import LABEL, ramp

PROFILE_STEPS = 1024
BLAS_WORK = 100_000  # multiplications that one thread of a BLAS does by itself
BATCH_PIXELS = 60_000  # drawn at once: what fits a processor's cache

# half width along a stroke: (place 0..1 from the base, width 0..1), joined smoothly
_PROFILES: dict[str, tuple[tuple[float, float], ...]] = {
    "leaf": ((0, 0.05), (0.15, 0.6), (0.4, 1.0), (0.7, 0.7), (0.9, 0.27), (1, 0)),
    "blade": ((0, 0.75), (0.3, 1.0), (0.6, 0.8), (0.85, 0.35), (1, 0)),
    "strap": ((0, 0.4), (0.3, 0.75), (0.7, 1.0), (0.88, 0.9), (0.96, 0.6), (1, 0)),
    "point": ((0, 0.5), (0.3, 0.9), (0.5, 1.0), (0.75, 0.72), (0.92, 0.28), (1, 0)),
    "round": ((0, 0.2), (0.2, 0.55), (0.45, 0.92), (0.65, 1.0), (0.82, 0.88), (0.94, 0.55), (1, 0)),
    "fan": ((0, 0.15), (0.25, 0.5), (0.5, 0.85), (0.75, 1.0), (0.9, 0.82), (0.97, 0.5), (1, 0)),
    "bowl": (
        (0, 0.3),
        (0.2, 0.62),
        (0.45, 0.9),
        (0.65, 1.0),
        (0.8, 0.95),
        (0.9, 0.78),
        (0.96, 0.52),
        (1, 0),
    ),
    "petal": (
        (0, 0),
        (0.06, 0.46),
        (0.2, 0.8),
        (0.45, 1.0),
        (0.7, 0.98),
        (0.86, 0.8),
        (0.95, 0.5),
        (1, 0),
    ),
    "lance": ((0, 0.3), (0.2, 0.7), (0.45, 1.0), (0.65, 0.9), (0.85, 0.45), (1, 0)),
    "egg": ((0, 0.35), (0.15, 0.8), (0.4, 1.0), (0.65, 0.88), (0.88, 0.45), (1, 0)),
    "bell": ((0, 0.1), (0.06, 0.45), (0.2, 0.72), (0.5, 0.78), (0.75, 0.85), (0.9, 1.0), (1, 1.0)),
    "line": ((0, 1.0), (0.5, 0.9), (1, 0.7)),
    "disc": (
        (0, 0),
        (0.05, 0.44),
        (0.15, 0.71),
        (0.3, 0.92),
        (0.5, 1.0),
        (0.7, 0.92),
        (0.85, 0.71),
        (0.95, 0.44),
        (1, 0),
    ),
    "fir": (
        (0, 0.1),
        (0.07, 0.1),
        (0.09, 1.0),
        (0.26, 0.55),
        (0.27, 0.8),
        (0.43, 0.4),
        (0.44, 0.62),
        (0.6, 0.28),
        (0.61, 0.44),
        (0.78, 0.14),
        (0.79, 0.25),
        (1, 0),
    ),
}


@cache
def profile(shape: str) -> np.ndarray:
    """Return the half width of a shape at PROFILE_STEPS + 1 places along it, 0..1."""
    place, width = np.array(_PROFILES[shape], dtype=float).T
    return PchipInterpolator(place, width)(np.linspace(0, 1, PROFILE_STEPS + 1)).astype(np.float32)


@lru_cache(maxsize=256)
def _weights(length: int, cells: int) -> np.ndarray:
    """Return the (length, cells + 3) matrix that draws a smooth curve through random heights."""
    place = (np.arange(length) + 0.5) / length * cells
    first = np.minimum(place.astype(int), cells - 1)
    t = place - first
    cubic = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    matrix = np.zeros((length, cells + 3), np.float32)
    for k, weight in enumerate(cubic):
        matrix[np.arange(length), first + k] = weight / 6
    return matrix


def curve(length: int, cells: int, random: np.random.Generator) -> np.ndarray:
    """Return a smooth random curve of about unit spread, shape (length,)."""
    return _weights(length, cells) @ random.standard_normal(cells + 3).astype(np.float32) * 1.4


def ridge(length: int, cells: int, octaves: int, random: np.random.Generator) -> np.ndarray:
    """Return a sum of curves, each twice as fine and half as high, shape (length,)."""
    return sum(curve(length, cells * 2**k, random) / 2**k for k in range(octaves))


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return left @ right in blocks of rows so small that no BLAS starts threads for them."""
    rows = max(BLAS_WORK // right.size, 1)
    if rows >= len(left):
        return left @ right
    return np.concatenate([left[k : k + rows] @ right for k in range(0, len(left), rows)])


def texture(
    height: int, width: int, rows: int, columns: int, octaves: int, random: np.random.Generator
) -> np.ndarray:
    """Return smooth noise of about unit spread, shape (height, width): a sum of octaves."""
    total = np.zeros((height, width), np.float32)
    for k in range(octaves):
        r, c = rows * 2**k, columns * 2**k
        grid = random.standard_normal((r + 3, c + 3), dtype=np.float32) * np.float32(1.7 / 2**k)
        if r <= height and c <= width:  # finer waves than pixels would only be noise
            total += _product(_weights(height, r), _product(grid, _weights(width, c).T))
    return total


@dataclass(frozen=True)
class Frame:
    """Maps pixels to units: the origin in pixels, the units per pixel and the inverse matrix."""

    origin: np.ndarray
    units: np.ndarray
    pixels: np.ndarray
    pixel: float  # size of a pixel in units, about

    def outward(self, local: np.ndarray) -> np.ndarray:
        """Turn directions in units (2, m, n) into pixels (m, 2, n)."""
        return np.einsum("ij,jmn->min", self.pixels, local)

    def inward(self, local: np.ndarray) -> np.ndarray:
        """Return what a pixel right and a pixel down mean along directions in units, (m, 2, n)."""
        return np.einsum("ji,jmn->min", self.units, local)


@dataclass(frozen=True)
class Batch:
    """What some strokes cover: cover 0..1, L, what their shadow leaves (or None): (n, h, w) each.

    `windows` tells for each stroke seen: its number, its place on the canvas, its part of (h, w).
    """

    cover: np.ndarray
    light: np.ndarray
    left_by_shadow: np.ndarray | None
    windows: list[tuple[int, tuple[slice, slice], tuple[slice, slice]]]


_PER_STROKE = ("x", "y", "angle", "length", "width", "light", "tip", "side", "rim", "bend")


@dataclass
class Strokes:
    """A batch of strokes; each field is a number or an array with one entry per stroke.

    Lengths and places are in the units of the patch they are drawn on; angles in radians, 0 to the
    right, pi/2 down. Light: L of the stroke, plus `tip` at its end (minus at its base), plus `side`
    across it; `rim` darkens the edge, `fold` the middle, `vein` draws `veins` fine lines, `crumple`
    makes the outline uneven, `shadow` falls on what is below.
    """

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    length: np.ndarray
    width: np.ndarray
    shape: str = "leaf"
    light: np.ndarray | float = 50.0
    tip: np.ndarray | float = 0.0
    side: np.ndarray | float = 0.0
    rim: np.ndarray | float = 4.0
    vein: float = 0.0
    veins: float = 9.0
    fold: float = 0.0
    bend: np.ndarray | float = 0.0
    shadow: float = 0.0
    crumple: float = 0.0

    def __post_init__(self) -> None:
        count = max(np.size(getattr(self, name)) for name in _PER_STROKE[:5])
        self.table = np.empty((len(_PER_STROKE), count), np.float32)
        for row, name in zip(self.table, _PER_STROKE, strict=True):
            row[:] = getattr(self, name)
        self._name_rows()

    def _name_rows(self) -> None:
        for row, name in zip(self.table, _PER_STROKE, strict=True):
            setattr(self, name, row)

    @staticmethod
    def join(parts: list[Strokes]) -> Strokes:
        """Return strokes of one shape as one batch; the finish of the first part holds for all."""
        whole = copy(parts[0])
        whole.table = np.concatenate([part.table for part in parts], axis=1)
        whole._name_rows()
        return whole

    def trace(self, frame: Frame, canvas: tuple[int, int]) -> Iterator[Batch]:
        """Yield what each stroke covers, first below, on windows just large enough for a batch.

        `frame` maps canvas pixels to the units of the strokes; `canvas` is its (height, width).
        """
        count = self.table.shape[1]
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        local = np.concatenate([cosine, -sine, self.x, sine, cosine, self.y]).reshape(2, 3, count)
        ahead, aside, middle = frame.outward(local)
        away = self.bend * self.length / 2
        middle = middle + frame.origin[:, None] + ahead * (self.length / 2) + aside * away
        half = (
            np.abs(ahead) * (self.length / 2)
            + np.abs(aside) * (1.3 * self.width + np.abs(away))
            + 1.5
        )
        seen = (middle + half > 0) & (middle - half < np.array(canvas[::-1])[:, None])
        chosen = (seen[0] & seen[1]).nonzero()[0]
        inward = frame.inward(local[:, :2])  # what a pixel right and down mean along and across
        foot = self.x * cosine + self.y * sine, self.y * cosine - self.x * sine
        while len(chosen):
            extent = np.maximum.accumulate(half[:, chosen], axis=1)
            area = 4 * extent[0] * extent[1] * np.arange(1, len(chosen) + 1)
            count = max(int(np.searchsorted(area, BATCH_PIXELS)), 1)
            part, chosen = chosen[:count], chosen[count:]
            width, height = (int(2 * side) + 2 for side in extent[:, count - 1])
            corner = np.floor(middle[:, part] - np.array([[width], [height]]) / 2 + 0.5)
            px, py = (corner + 0.5 - frame.origin[:, None]).astype(np.float32)
            px = px[:, None, None] + np.arange(width, dtype=np.float32)
            py = py[:, None, None] + np.arange(height, dtype=np.float32)[:, None]
            along, across = (
                right[part, None, None] * px
                + (down[part, None, None] * py - offset[part, None, None])
                for (right, down), offset in zip(inward, foot, strict=True)
            )
            cover, light, shadow = self._draw(along, across, frame.pixel, part)
            windows = []
            left, top = corner.astype(int).tolist()
            for k, (y, x) in enumerate(zip(top, left, strict=True)):
                y0, y1 = (y if y > 0 else 0), min(y + height, canvas[0])
                x0, x1 = (x if x > 0 else 0), min(x + width, canvas[1])
                if y0 < y1 and x0 < x1:
                    own = (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
                    windows.append((k, (slice(y0, y1), slice(x0, x1)), own))
            yield Batch(cover, light, shadow, windows)

    def _draw(self, along: np.ndarray, across: np.ndarray, pixel: float, part: np.ndarray):
        """Return cover, L and shadow of strokes from the places along and across them (units)."""
        own = dict(zip(_PER_STROKE, self.table[:, part, None, None], strict=True))
        length, full = own["length"], own["width"]
        along /= length
        if np.any(self.bend):
            across -= own["bend"] * length * along * along
        inside = np.minimum(np.maximum(along, 0.0), 1.0)
        width = profile(self.shape)[(inside * PROFILE_STEPS).astype(np.intp)]
        if self.crumple:
            width *= 1 - self.crumple * np.sin(13 * inside + 9 * own["angle"]) * inside
        width *= full
        along -= inside
        np.abs(along, out=along)
        along *= length
        room = width - np.abs(across)
        room -= along  # now how far beyond either end
        width += 0.05 * full
        across /= width
        t = np.minimum(np.maximum(across, -1.0, out=across), 1.0, out=across)
        light = inside
        light *= 2 * own["tip"]
        light += own["light"] - own["tip"]
        light += own["side"] * t
        if self.vein:
            light += self.vein * np.sin(self.veins * t)
        square = t * t
        if self.fold:
            light -= self.fold * np.maximum(1 - square * 20, 0)
        square *= square
        square *= own["rim"]
        light -= square
        shadow = None
        if self.shadow:
            soft = np.maximum(0.22 * full, 1.5 * pixel)
            shadow = room / soft
            shadow += 1.0
            np.minimum(np.maximum(shadow, 0.0, out=shadow), 1.0, out=shadow)
            shadow *= -self.shadow
            shadow += 1.0
        room *= 1 / pixel
        room += 0.5
        cover = np.minimum(np.maximum(room, 0.0, out=room), 1.0, out=room)
        return cover, light, shadow


@dataclass(frozen=True)
class Air:
    """What lies between thing and eye: haze 0..1 lifts L towards `level` and takes chroma away."""

    haze: float = 0.0
    level: float = 78.0


CLEAR = Air()


class Canvas:
    """A picture in the making: Lab (3, H, W) and the label of the thing at each pixel."""

    def __init__(self, height: int, width: int, unit: float) -> None:
        self.lab = np.zeros((3, height, width), np.float32)
        self.labels = np.zeros((height, width), np.uint8)
        self.height, self.width, self.unit = height, width, unit  # unit: pixels per scene unit
        self.cover: np.ndarray | None = (
            None  # kept for sprites only: how far a pixel is painted, 0..1
        )

    @property
    def rows(self) -> np.ndarray:
        """Row places in scene units, (H, 1)."""
        return ((np.arange(self.height, dtype=np.float32) + 0.5) / self.unit)[:, None]

    @property
    def columns(self) -> np.ndarray:
        """Column places in scene units, (1, W)."""
        return ((np.arange(self.width, dtype=np.float32) + 0.5) / self.unit)[None, :]

    def paint(
        self,
        cover: np.ndarray,
        light: np.ndarray,
        thing: str,
        colours: np.ndarray | None = None,
        air: Air = CLEAR,
        top: int = 0,
        left: int = 0,
    ) -> None:
        """Lay a thing over a part of the canvas: cover 0..1 (h, w), L (h, w), ab by its law."""
        table = ramp(thing) if colours is None else colours
        height, width = cover.shape
        rows, columns = slice(top, top + height), slice(left, left + width)
        level = np.minimum(np.maximum(light * 2.0 + 0.5, 0), 200).astype(np.intp)
        colour = np.empty((3, height, width), np.float32)
        colour[0] = light
        np.take(table[0], level, out=colour[1])
        np.take(table[1], level, out=colour[2])
        if air.haze:
            colour[0] += air.haze * (air.level - light)
            colour[1:] *= 1 - 0.6 * air.haze
        part = self.lab[:, rows, columns]
        colour -= part
        colour *= cover
        part += colour
        np.copyto(self.labels[rows, columns], np.uint8(LABEL[thing]), where=cover > 0.5)
        if self.cover is not None:
            self.cover[rows, columns] += cover * (1 - self.cover[rows, columns])

    def paste(self, sprite: Canvas, x: float, y: float, air: Air = CLEAR) -> None:
        """Lay a sprite (a small canvas that keeps its cover), its middle at scene (x, y)."""
        left = int(np.floor(x * self.unit - sprite.width / 2 + 0.5))
        top = int(np.floor(y * self.unit - sprite.height / 2 + 0.5))
        y0, y1 = max(top, 0), min(top + sprite.height, self.height)
        x0, x1 = max(left, 0), min(left + sprite.width, self.width)
        if y0 >= y1 or x0 >= x1:
            return
        own = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        cover = sprite.cover[own]
        part = self.lab[:, y0:y1, x0:x1]
        part *= 1 - cover
        part[0] += (1 - air.haze) * sprite.lab[0][own] + (air.haze * air.level) * cover
        part[1:] += (1 - 0.6 * air.haze) * sprite.lab[1:, own[0], own[1]]
        np.copyto(self.labels[y0:y1, x0:x1], sprite.labels[own], where=cover > 0.5)

    def scatter(
        self, strokes: Strokes, thing: str, colours: np.ndarray | None = None, air: Air = CLEAR
    ) -> None:
        """Lay strokes (scene units) over the canvas, each on a small window of its own."""
        table = ramp(thing) if colours is None else colours
        label = np.uint8(LABEL[thing])
        scale = np.eye(2, dtype=np.float32)
        frame = Frame(np.zeros(2), scale / self.unit, scale * self.unit, 1 / self.unit)
        for batch in strokes.trace(frame, (self.height, self.width)):
            count, height, width = batch.cover.shape
            colour = np.empty((count, 3, height, width), np.float32)
            level = np.minimum(np.maximum(batch.light * 2 + 0.5, 0), 200).astype(np.intp)
            for channel in (0, 1):
                np.take(table[channel], level, out=colour[:, channel + 1])
            colour[:, 0] = batch.light
            if air.haze:
                colour[:, 0] += air.haze * (air.level - batch.light)
                colour[:, 1:] *= 1 - 0.6 * air.haze
            solid = batch.cover > 0.5
            for k, (rows, columns), (y, x) in batch.windows:
                region = self.lab[:, rows, columns]
                if batch.left_by_shadow is not None:
                    region[0] *= batch.left_by_shadow[k, y, x]
                change = colour[k, :, y, x] - region
                change *= batch.cover[k, y, x]
                region += change
                np.copyto(self.labels[rows, columns], label, where=solid[k, y, x])

    def shade(self, x: float, y: float, radius: float, depth: float, squeeze: float = 1.0) -> None:
        """Darken a soft ellipse (scene units): the shadow of a thing on what is behind it."""
        top, bottom = (int((y + side * radius * squeeze) * self.unit) for side in (-1, 1))
        left, right = (int((x + side * radius) * self.unit) for side in (-1, 1))
        top, left = max(top, 0), max(left, 0)
        bottom, right = min(bottom, self.height), min(right, self.width)
        if top >= bottom or left >= right:
            return
        dy = (self.rows[top:bottom] - y) / (radius * squeeze)
        dx = (self.columns[:, left:right] - x) / radius
        fall = np.maximum(1 - dx * dx - dy * dy, 0)
        self.lab[0, top:bottom, left:right] *= 1 - depth * fall

    def blur(self, sigma: float) -> None:
        """Blur what is painted so far; sigma in scene units."""
        pixels = sigma * self.unit
        if pixels > 0.3:
            for layer in self.lab:
                gaussian_filter(layer, pixels, output=layer, mode="nearest", truncate=2.5)

    def enlarged(self, height: int, width: int) -> Canvas:
        """Return this canvas at a greater size (smoothly enlarged: blurred things cost little)."""
        big = Canvas(height, width, self.unit * height / self.height)
        y, x = (
            (np.arange(new, dtype=np.float32) + 0.5) * old / new - 0.5
            for new, old in ((height, self.height), (width, self.width))
        )
        y0, x0 = (
            np.clip(np.floor(p).astype(int), 0, n - 2)
            for p, n in ((y, self.height), (x, self.width))
        )
        fy = np.clip(y - y0, 0, 1)[:, None].astype(np.float32)
        fx = np.clip(x - x0, 0, 1)[None].astype(np.float32)
        rows = self.lab[:, y0] * (1 - fy) + self.lab[:, y0 + 1] * fy
        big.lab = rows[:, :, x0] * (1 - fx) + rows[:, :, x0 + 1] * fx
        big.labels = self.labels[np.ix_((y + 0.5).astype(int), (x + 0.5).astype(int))].copy()
        return big


@dataclass
class Patch:
    """A window of a canvas with coordinates of its own: origin at (x, y), unit `radius`, tilted.

    `tilt` 0..1 squeezes the plane along the direction `lean` (radians): a flower turned away.
    """

    canvas: Canvas
    x: float
    y: float
    radius: float
    roll: float = 0.0
    tilt: float = 0.0
    lean: float = np.pi / 2
    reach: float = 1.15
    air: Air = CLEAR

    def __post_init__(self) -> None:
        canvas, span = self.canvas, self.radius * self.reach
        self.top = max(int((self.y - span) * canvas.unit), 0)
        self.left = max(int((self.x - span) * canvas.unit), 0)
        bottom = min(int((self.y + span) * canvas.unit) + 2, canvas.height)
        right = min(int((self.x + span) * canvas.unit) + 2, canvas.width)
        self.empty = self.top >= bottom or self.left >= right
        self.pixel = 1.0 / (self.radius * canvas.unit)
        if self.empty:
            return
        self.shape = (bottom - self.top, right - self.left)
        c, s = np.cos(self.lean), np.sin(self.lean)
        squeeze = np.array([[c, s], [-s, c]]) * np.array([[1 / (1 - self.tilt)], [1.0]])
        c, s = np.cos(self.lean - self.roll), np.sin(self.lean - self.roll)
        units = (np.array([[c, -s], [s, c]]) @ squeeze) * self.pixel
        origin = np.array([self.x * canvas.unit - self.left, self.y * canvas.unit - self.top])
        self.frame = Frame(
            origin, units.astype(np.float32), np.linalg.inv(units).astype(np.float32), self.pixel
        )
        px = np.arange(self.shape[1]) + 0.5 - origin[0]
        py = (np.arange(self.shape[0]) + 0.5 - origin[1])[:, None]
        self.gx = (units[0, 0] * px + units[0, 1] * py).astype(np.float32)
        self.gy = (units[1, 0] * px + units[1, 1] * py).astype(np.float32)

    def strokes(self, strokes: Strokes, thing: str, colours: np.ndarray | None = None) -> None:
        """Lay strokes (patch units) of one colour over each other as one body."""
        if self.empty:
            return
        through = np.ones(self.shape, np.float32)
        level = np.full(self.shape, strokes.light.mean(), np.float32)
        touched = []
        for batch in strokes.trace(self.frame, self.shape):
            clear = 1 - batch.cover
            for k, here, own in batch.windows:
                under = level[here]
                if batch.left_by_shadow is not None:
                    under *= batch.left_by_shadow[k][own]
                change = batch.light[k][own] - under
                change *= batch.cover[k][own]
                under += change
                through[here] *= clear[k][own]
                touched.append(here)
        if not touched:
            return
        top, bottom = min(r.start for r, _ in touched), max(r.stop for r, _ in touched)
        left, right = min(c.start for _, c in touched), max(c.stop for _, c in touched)
        cover, light = 1 - through[top:bottom, left:right], level[top:bottom, left:right]
        self.canvas.paint(cover, light, thing, colours, self.air, self.top + top, self.left + left)

    def disc(
        self,
        radius: float,
        light: float,
        thing: str,
        colours: np.ndarray | None = None,
        *,
        x: float = 0.0,
        y: float = 0.0,
        dome: float = 10.0,
        sun: tuple[float, float] = (0.0, -1.0),
        grain: float = 0.0,
        wave: float = 0.0,
        lobes: int = 12,
        soft: float = 1.0,
    ) -> None:
        """Lay a dome, brighter towards the sun; `grain` draws seeds, `wave` frills the edge."""
        if self.empty:
            return
        middle = self.frame.origin + self.frame.pixels @ np.array([x, y])
        half = (
            np.linalg.norm(self.frame.pixels, axis=1) * (radius * (1 + wave) + self.pixel * soft)
            + 1
        )
        left, top = np.maximum(np.floor(middle - half).astype(int), 0)
        right, bottom = np.minimum(np.ceil(middle + half).astype(int), self.shape[::-1])
        if left >= right or top >= bottom:
            return
        dx, dy = self.gx[top:bottom, left:right] - x, self.gy[top:bottom, left:right] - y
        r = np.sqrt(dx * dx + dy * dy)
        edge = radius
        if wave or grain:
            theta = np.arctan2(dy, dx)
        if wave:
            edge = radius * (1 + wave * np.sin(lobes * theta))
        cover = np.minimum(np.maximum((edge - r) / (self.pixel * soft) + 0.5, 0), 1)
        q = r / radius
        level = light + dome * ((dx * sun[0] + dy * sun[1]) / radius - 0.5 * q * q)
        if grain:
            level = level + grain * np.sin(8 * theta + 22 * q) * np.sin(
                13 * theta - 22 * q
            ) * np.minimum(q * 2, 1)
        self.canvas.paint(
            cover, level, thing, colours, self.air, self.top + int(top), self.left + int(left)
        )
