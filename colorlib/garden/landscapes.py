"""The landscapes: lake, hills, coast, evening, autumn, dunes, winter and corn fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .canvas import CLEAR, Air, Canvas, Strokes, ridge, texture
from .scenery import UP, Light, fill, firs, grass, paint_sky, relief, tree


@dataclass
class Scene:
    """A landscape in the making; `high` and `wide` are its sides in scene units."""

    back: Canvas
    size: tuple[int, int]
    high: float
    wide: float
    light: Light
    random: np.random.Generator

    def begin(self, horizon: float, cloudy: float, evening: bool = False) -> Canvas:
        """Paint the sky and return the canvas for the rest."""
        paint_sky(self.back, horizon, self.random, cloudy, evening)
        self.back.blur(0.004)
        return self.back.enlarged(*self.size)

    def line(self, canvas: Canvas, y: float, rise: float, waves: float, octaves: int) -> np.ndarray:
        """Return a skyline about `y`, shape (1, W)."""
        cells = max(round(waves * self.wide), 1)
        return (y - rise * ridge(canvas.width, cells, octaves, self.random))[None, :]

    def noise(self, canvas: Canvas, rows: float, columns: float, octaves: int = 3) -> np.ndarray:
        """Return noise with so many waves per scene unit, shape (H, W)."""
        cells = (max(int(rows * self.high), 1), max(int(columns * self.wide), 1))
        return texture(canvas.height, canvas.width, *cells, octaves, self.random)


def _mountains(scene: Scene, canvas: Canvas, y: float, rise: float, air: Air, snowy: float) -> None:
    """Raise a range with its foot at `y`; snow lies above a line `snowy` of the way up."""
    skyline = np.minimum(scene.line(canvas, y - rise, 0.42 * rise, 2.6, 5), y)
    noise = -np.abs(scene.noise(canvas, 4, 4, 4))
    face = relief(noise, scene.light, max(canvas.height // 64, 1))
    fill(canvas, skyline, 49 + 19 * face, "mountain", air)
    if snowy <= 0:
        return
    snow_line = (
        y - rise * (1.5 - snowy) + 0.12 * rise * scene.noise(canvas, 10, 14, 3) + 0.25 * rise * face
    )
    cover = np.clip((snow_line - canvas.rows) * canvas.unit * 0.5, 0, 1)
    cover = cover * np.clip((canvas.rows - skyline) * canvas.unit + 0.5, 0, 1)
    canvas.paint(cover, 87 + 12 * face, "snow", air=Air(air.haze * 0.5, 85))


def _woods(
    scene: Scene, canvas: Canvas, foot: float, size: float, air: Air, count: int, light: float = 30
) -> None:
    """Plant a row of firs along `foot`."""
    count = max(int(count * scene.wide), 3)
    x = np.sort(scene.random.uniform(-0.02, scene.wide + 0.02, count))
    x = scene.random.permutation(x)
    sizes = size * scene.random.uniform(0.6, 1.15, count)
    fill(canvas, foot - 0.25 * size, light, "forest", air)
    firs(canvas, x, np.full(count, foot + 0.01), sizes, scene.light, light, scene.random, air)


def _water(
    scene: Scene, canvas: Canvas, shore: float, evening: bool = False, mirror: float = 0.55
) -> None:
    """Fill below `shore` with water that mirrors what stands above it."""
    top = round(shore * canvas.unit)
    deep = canvas.height - top
    if deep <= 0:
        return
    up = np.clip(top - 1 - np.arange(deep), 0, None)
    near = np.linspace(0, 1, deep, dtype=np.float32)[:, None]
    image = canvas.lab[:, up]
    image = (image + np.roll(image, 1, 2) + np.roll(image, -1, 2)) / 3
    ripple = texture(
        deep,
        canvas.width,
        max(int(34 * scene.high), 2),
        max(int(5 * scene.wide), 1),
        2,
        scene.random,
    )
    own = (62 if evening else 58) - 24 * near
    strength = mirror * (1 - 0.45 * near)
    light = own + strength * (image[0] - own) + ripple * (1.5 + 4 * near)
    cover = np.ones((deep, canvas.width), np.float32)
    canvas.paint(cover, light, "evening water" if evening else "water", top=top)
    # what is mirrored keeps a part of its own colour
    canvas.lab[1:, top:] += 0.75 * strength * (image[1:] - canvas.lab[1:, top:])


def _trees(
    scene: Scene,
    canvas: Canvas,
    count: int,
    top: float,
    bottom: float,
    size: float,
    thing: str = "foliage",
    light: float = 40,
    spread: float = 3,
) -> None:
    """Plant broad trees between two rows, small ones far away."""
    r = scene.random
    near = np.sort(r.uniform(0, 1, count))
    for k, depth in enumerate(near):
        x = ((k * 0.618 + r.uniform(0, 0.25)) % 1.0) * scene.wide
        own = size * (0.35 + 0.65 * depth) * r.uniform(0.8, 1.2)
        air = Air(0.25 * (1 - depth))
        tree(
            canvas,
            x,
            top + (bottom - top) * depth,
            own,
            thing,
            light + r.normal(0, spread),
            scene.light,
            r,
            air,
        )


def _house(scene: Scene, canvas: Canvas, x: float, foot: float, size: float) -> None:
    """Build a small house with a tiled roof."""
    px = 1 / canvas.unit
    dx, dy = canvas.columns - x, foot - canvas.rows
    box = np.minimum(np.minimum(0.5 * size - np.abs(dx), dy), 0.5 * size - dy)
    shade = np.where(dx * scene.light.sun[0] > 0, 88, 76).astype(np.float32)
    canvas.paint(np.clip(box / px + 0.5, 0, 1), np.broadcast_to(shade, box.shape), "house")
    up = dy - 0.5 * size
    roof = np.minimum(np.minimum(up, 0.42 * size - up), 0.62 * size - np.abs(dx) - 0.35 * up)
    canvas.paint(np.clip(roof / px + 0.5, 0, 1), np.full(roof.shape, 42, np.float32), "roof")
    for side in (-0.25, 0.25):
        pane = np.minimum(
            0.09 * size - np.abs(dx - side * size), 0.1 * size - np.abs(dy - 0.26 * size)
        )
        canvas.paint(np.clip(pane / px + 0.5, 0, 1), np.full(pane.shape, 28, np.float32), "trunk")


def _meadows(
    scene: Scene, canvas: Canvas, top: float, layers: int, thing: str = "meadow", light: float = 52
) -> float:
    """Lay hills one before the other; return the foot of the last skyline."""
    step = (scene.high - top) / (layers + 0.6)
    for k in range(layers):
        y = top + step * k
        edge = scene.line(canvas, y, 0.018 + 0.014 * k, 1.4, 2)
        slope = np.gradient(edge[0])[None, :] * canvas.unit
        down = np.clip((canvas.rows - edge) / step, 0, 2)
        tone = (
            light
            + 9
            - 8 * down
            + 12 * slope * np.sign(scene.light.sun[0])
            + 2.5 * scene.noise(canvas, 14, 5)
        )
        tone += scene.random.normal(0, 4)
        fill(canvas, edge, tone, thing, Air(0.3 * (1 - k / layers) ** 1.5))
    return top + step * (layers - 1)


def lake(scene: Scene) -> Canvas:
    """Paint a lake below snowy mountains."""
    r = scene.random
    shore = scene.high * r.uniform(0.55, 0.68)
    canvas = scene.begin(shore, r.uniform(0, 0.8))
    snowy = r.uniform(0.3, 0.9)
    _mountains(scene, canvas, shore, scene.high * r.uniform(0.3, 0.42), Air(0.35), snowy)
    _mountains(scene, canvas, shore, scene.high * r.uniform(0.16, 0.26), Air(0.12), snowy * 0.5)
    _woods(scene, canvas, shore, 0.07, Air(0.1), 34)
    _water(scene, canvas, shore)
    bank = scene.line(canvas, scene.high * r.uniform(0.88, 0.98), 0.04, 1.5, 3)
    fill(canvas, bank, 46 + 5 * scene.noise(canvas, 16, 8), "meadow")
    grass(
        canvas, 24, (0, scene.high * 0.97, scene.wide, scene.high * 1.06), 0.1, 46, scene.light, r
    )
    side = 0.12 if r.random() < 0.5 else 0.88
    x = scene.wide * side + r.normal(0, 0.07, 4)
    firs(canvas, x, np.full(4, scene.high * 1.0), r.uniform(0.3, 0.6, 4), scene.light, 26, r)
    return canvas


def hills(scene: Scene) -> Canvas:
    """Paint green hills with trees and a farm."""
    r = scene.random
    top = scene.high * r.uniform(0.36, 0.52)
    canvas = scene.begin(top, r.uniform(0.2, 1.0))
    if r.random() < 0.6:
        _mountains(scene, canvas, top, scene.high * 0.16, Air(0.5), 0)
    foot = _meadows(scene, canvas, top, int(r.integers(3, 5)))
    middle = (top + foot) / 2
    if r.random() < 0.6:
        _house(
            scene, canvas, scene.wide * r.uniform(0.2, 0.8), middle + 0.03, r.uniform(0.08, 0.14)
        )
    _trees(
        scene, canvas, int(r.integers(4, 9)), top + 0.06, scene.high * 0.9, r.uniform(0.25, 0.38)
    )
    grass(
        canvas, 20, (0, scene.high * 0.97, scene.wide, scene.high * 1.08), 0.1, 52, scene.light, r
    )
    return canvas


def coast(scene: Scene) -> Canvas:
    """Paint sea, surf and a beach."""
    r = scene.random
    horizon = scene.high * r.uniform(0.36, 0.5)
    canvas = scene.begin(horizon, r.uniform(0.1, 0.9))
    if r.random() < 0.5:
        head = np.clip(
            (canvas.columns - scene.wide * r.uniform(0.45, 0.7)) * (1 if r.random() < 0.5 else -1),
            0,
            1,
        )
        cape = scene.line(canvas, horizon, 0.02, 4, 3) - 0.25 * np.sqrt(head) + 0.03
        fill(
            canvas,
            cape,
            44 + 8 * relief(scene.noise(canvas, 8, 8), scene.light, 2),
            "forest",
            Air(0.25),
        )
    _water(scene, canvas, horizon, mirror=0.35)
    shore = scene.high * r.uniform(0.66, 0.8)
    tilt = r.normal(0, 0.18) * (canvas.columns - scene.wide / 2)
    edge = scene.line(canvas, shore, 0.012, 3, 3) + tilt
    waves = texture(
        canvas.height, canvas.width, max(int(26 * scene.high), 2), max(int(4 * scene.wide), 1), 2, r
    )
    away = np.clip((canvas.rows - horizon) / (edge - horizon + 1e-3), 0, 1)
    foam = np.clip((waves - 1.9 + 0.7 * away) * 3, 0, 1) * (canvas.rows > horizon + 0.01)
    canvas.paint(foam.astype(np.float32), np.full(foam.shape, 93, np.float32), "cloud")
    wet = 62 + 26 * np.clip((canvas.rows - edge) * 9, 0, 1) + 2 * scene.noise(canvas, 20, 12)
    fill(canvas, edge - 0.02, np.full(foam.shape, 92, np.float32), "cloud", soft=3)
    fill(canvas, edge, wet - 6, "sand", soft=2)
    if r.random() < 0.7:
        side = (0, 0.4) if r.random() < 0.5 else (0.6, 1)
        box = (side[0] * scene.wide, scene.high * 0.98, side[1] * scene.wide, scene.high * 1.08)
        grass(canvas, 34, box, 0.26, 52, scene.light, r)
    if r.random() < 0.6:
        _boat(scene, canvas, scene.wide * r.uniform(0.2, 0.8), horizon + 0.05, r.uniform(0.1, 0.17))
    return canvas


def _boat(scene: Scene, canvas: Canvas, x: float, y: float, size: float) -> None:
    """Float a sailing boat."""
    canvas.scatter(
        Strokes(x - 0.45 * size, y, 0.0, 0.9 * size, 0.1 * size, "egg", light=34), "trunk"
    )
    for lean, width in ((0.1, 0.2), (-0.2, 0.12)):
        sail = Strokes(
            x + lean * size,
            y - 0.08 * size,
            UP,
            size,
            width * size,
            "blade",
            light=93,
            rim=5,
            side=4,
        )
        canvas.scatter(sail, "cloud")


def evening(scene: Scene) -> Canvas:
    """Paint a low sun over water or hills."""
    r = scene.random
    horizon = scene.high * r.uniform(0.5, 0.66)
    canvas = scene.begin(horizon, r.uniform(0.2, 0.8), evening=True)
    x, y = scene.wide * r.uniform(0.25, 0.75), horizon - r.uniform(0.03, 0.16)
    away = np.hypot(canvas.columns - x, canvas.rows - y)
    glow = np.exp(-((away / 0.22) ** 2)) * 0.6
    canvas.paint(glow.astype(np.float32), np.full(glow.shape, 86, np.float32), "evening sky")
    radius = r.uniform(0.045, 0.07)
    canvas.paint(
        np.clip((radius - away) * canvas.unit + 0.5, 0, 1),
        np.full(glow.shape, 97, np.float32),
        "sun",
    )
    for k in range(int(r.integers(1, 3))):
        edge = scene.line(canvas, horizon - 0.03 + 0.02 * k, 0.05 - 0.02 * k, 2, 4)
        fill(
            canvas,
            edge,
            np.full(glow.shape, 38 - 8 * k, np.float32),
            "mountain",
            Air(0.15 * (1 - k), 60),
        )
    if r.random() < 0.65:
        _water(scene, canvas, horizon, evening=True, mirror=0.8)
        deep = np.clip(canvas.rows - horizon, 0, 1)
        glints = texture(
            canvas.height,
            canvas.width,
            max(int(36 * scene.high), 2),
            max(int(7 * scene.wide), 1),
            2,
            r,
        )
        path = np.exp(-(((canvas.columns - x) / (0.05 + 0.3 * deep)) ** 2)) * (deep > 0)
        cover = np.clip(path * (0.7 + glints), 0, 0.9).astype(np.float32)
        canvas.paint(cover, np.full(cover.shape, 84, np.float32), "evening water")
        side = 0.1 if r.random() < 0.5 else 0.9
        trees = scene.wide * side + r.normal(0, 0.08, 5)
        fill(
            canvas,
            scene.line(canvas, scene.high * 0.97, 0.03, 2, 3),
            np.full(glow.shape, 14.0),
            "forest",
        )
        firs(canvas, trees, np.full(5, scene.high), r.uniform(0.25, 0.55, 5), scene.light, 13, r)
    else:
        _meadows(scene, canvas, horizon, 3, "forest", 24)
        _woods(scene, canvas, scene.high * 0.9, 0.16, CLEAR, 14, 14)
        fill(canvas, scene.high * 0.9, 15 + 2 * scene.noise(canvas, 20, 8), "forest")
    return canvas


def autumn(scene: Scene) -> Canvas:
    """Paint a park in autumn."""
    r = scene.random
    top = scene.high * r.uniform(0.4, 0.5)
    canvas = scene.begin(top, r.uniform(0.2, 0.9))
    _woods(scene, canvas, top + 0.02, 0.1, Air(0.35), 26, 34)
    _meadows(scene, canvas, top, 2, light=50)
    if r.random() < 0.5:
        shore = scene.high * r.uniform(0.74, 0.82)
        _trees(scene, canvas, 6, top + 0.05, shore - 0.01, 0.42, "autumn", 52, 9)
        _water(scene, canvas, shore, mirror=0.75)
    else:
        _trees(scene, canvas, 8, top + 0.05, scene.high * 0.9, 0.5, "autumn", 52, 9)
    return canvas


def dunes(scene: Scene) -> Canvas:
    """Paint dunes of sand below a clear sky."""
    r = scene.random
    top = scene.high * r.uniform(0.38, 0.55)
    canvas = scene.begin(top, r.uniform(-0.2, 0.3))
    layers = int(r.integers(3, 5))
    step = (scene.high - top) / layers
    for k in range(layers):
        edge = scene.line(canvas, top + step * k, 0.05 + 0.02 * k, 1.1, 2)
        crest = scene.line(canvas, top + step * (k + 0.5), 0.12, 1.3, 1)
        ripple = (
            np.sin((canvas.rows * 90 + 2 * scene.noise(canvas, 3, 3)) * (1.4 - 0.2 * k)) * 0.25 * k
        )
        shade = np.clip((canvas.rows - crest) * canvas.unit * 0.05, 0, 1)
        fill(
            canvas,
            edge,
            84 - 24 * shade + ripple + 1.5 * scene.noise(canvas, 6, 6),
            "sand",
            Air(0.2 * (1 - k / layers)),
        )
    return canvas


def winter(scene: Scene) -> Canvas:
    """Paint firs in snow before mountains."""
    r = scene.random
    top = scene.high * r.uniform(0.45, 0.58)
    canvas = scene.begin(top, r.uniform(0, 0.7))
    _mountains(scene, canvas, top, scene.high * r.uniform(0.2, 0.34), Air(0.3), 1.2)
    _woods(scene, canvas, top + 0.01, 0.08, Air(0.25), 30, 32)
    _meadows(scene, canvas, top, 3, "snow", 84)
    count = int(r.integers(6, 12))
    near = np.sort(r.uniform(0, 1, count)) ** 1.5
    x = ((np.arange(count) * 0.618 + r.uniform(0, 0.3, count)) % 1.0) * scene.wide
    foot = top + 0.06 + (scene.high * 0.98 - top - 0.06) * near
    for where, y, size in zip(x, foot, 0.12 + 0.4 * near, strict=True):
        canvas.shade(where - 0.3 * size * scene.light.sun[0], y, 0.4 * size, 0.3, 0.2)
        firs(canvas, np.array([where]), np.array([y]), np.array([size]), scene.light, 30, r)
    return canvas


def corn(scene: Scene) -> Canvas:
    """Paint a field of ripe corn in rows that run to the horizon."""
    r = scene.random
    horizon = scene.high * r.uniform(0.38, 0.5)
    canvas = scene.begin(horizon, r.uniform(0.2, 1.0))
    if r.random() < 0.5:
        _mountains(scene, canvas, horizon, 0.12, Air(0.5), 0)
    edge = scene.line(canvas, horizon - 0.04, 0.015, 6, 3)
    fill(canvas, edge, 38 + 6 * scene.noise(canvas, 16, 16), "forest", Air(0.22))
    away = np.clip((canvas.rows - horizon) / (scene.high - horizon), 0.02, 1)
    fan = (canvas.columns - scene.wide * r.uniform(0.2, 0.8)) / away
    rows = np.sin(fan * r.uniform(14, 22)) * np.clip(away * 3, 0, 1)
    tone = 74 - 8 * away + 8 * rows + 3.5 * scene.noise(canvas, 24, 16)
    fill(canvas, horizon, tone, "field", Air(0.05))
    _trees(scene, canvas, int(r.integers(1, 4)), horizon + 0.02, horizon + 0.16, 0.36)
    return canvas


SCENES: tuple[Callable[[Scene], Canvas], ...] = (
    lake,
    hills,
    coast,
    evening,
    autumn,
    dunes,
    winter,
    corn,
)


def paint_landscape(
    back: Canvas, size: tuple[int, int], extent: tuple[float, float], random: np.random.Generator
) -> Canvas:
    """Paint a landscape; `back` takes the sky and is enlarged to `size`."""
    angle = UP + random.uniform(0.3, 1.1) * (1 if random.random() < 0.5 else -1)
    light = Light((float(np.cos(angle)), float(np.sin(angle))), float(random.uniform(0.7, 1.2)))
    share = np.array([1.3, 1.5, 1.2, 1.1, 1.0, 0.5, 0.8, 1.0])
    paint = SCENES[int(random.choice(len(SCENES), p=share / share.sum()))]
    return paint(Scene(back, size, extent[0], extent[1], light, random))
