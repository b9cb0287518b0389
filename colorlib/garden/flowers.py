"""The flower pictures: portraits, groups, beds and meadows, with stems and what is behind."""

from __future__ import annotations

import numpy as np

from .canvas import CLEAR, Air, Canvas, Strokes, texture
from .laws import SPECIES, TWO_COLOURED, colour_law
from .scenery import UP, Light, grass, leaves, paint_sky, paint_soil
from .species import HABIT, LONG_LEAVED, UPRIGHT, Head, draw


def stems(canvas: Canvas, heads: list[tuple[str, Head, float]], air: Air = CLEAR) -> None:
    """Draw the stems of heads (species, head, where its ground is) and their leaves."""
    parts: dict[str, list[Strokes]] = {"stem": [], "long": [], "pair": []}
    for species, head, ground in heads:
        if ground > head.y:
            _stem(parts, species, head, ground)
    for strokes in parts.values():
        if strokes:
            canvas.scatter(Strokes.join(strokes), "foliage", air=air)


def _stem(parts: dict[str, list[Strokes]], species: str, head: Head, ground: float) -> None:
    """Add the stem and the leaves of one head."""
    r, lit, drop, lean = head.random, head.light, ground - head.y, head.random.normal(0, 0.06)
    angle = np.pi / 2 + lean
    width = np.clip(head.radius * 0.07, 0.003, 0.02)
    side = 9 * float(lit.across(np.array(angle)))
    parts["stem"].append(
        Strokes(
            head.x,
            head.y,
            angle,
            drop,
            width,
            "line",
            light=46,
            side=side,
            rim=8,
            bend=r.normal(0, 0.05),
        )
    )
    if species in LONG_LEAVED:
        count, size = 4, min(drop * 0.95, head.radius * 4.5)
        angle = UP + np.linspace(-0.45, 0.45, count) + r.normal(0, 0.1, count)
        parts["long"].append(
            Strokes(
                head.x - np.sin(lean) * drop + r.normal(0, 0.02, count),
                ground,
                angle,
                size * r.uniform(0.7, 1.05, count),
                head.radius * 0.14,
                "blade",
                light=46 + r.normal(0, 4, count),
                tip=7,
                side=8 * lit.across(angle),
                rim=3,
                fold=5,
                shadow=0.15,
                bend=np.sign(angle - UP) * r.uniform(0.05, 0.3, count),
            )
        )
        return
    count = int(r.integers(2, 5))
    at = r.uniform(0.3, 0.95, count)
    way = np.where(np.arange(count) % 2 == 0, 1.0, -1.0)
    angle = UP + way * r.uniform(0.7, 1.3, count)
    size = min(head.radius * 0.95, drop) * r.uniform(0.6, 1.0, count)
    parts["pair"].append(
        Strokes(
            head.x - np.sin(lean) * drop * at,
            head.y + drop * at,
            angle,
            size,
            size * 0.26,
            "leaf",
            light=47 + r.normal(0, 5, count),
            tip=5,
            side=8 * lit.across(angle),
            rim=3,
            fold=8,
            vein=1.5,
            veins=7,
            bend=way * 0.25,
            shadow=0.15,
        )
    )


def _bokeh(
    canvas: Canvas, lit: Light, random: np.random.Generator, extent: tuple[float, float]
) -> None:
    """Paint a background far out of focus: greens, dark hollows, discs of light."""
    height, width = canvas.height, canvas.width
    light = random.uniform(28, 48)
    mood = light + 9 * texture(height, width, 2, 2, 2, random)
    mood += (
        random.uniform(4, 14)
        * (1 - 2 * canvas.rows / extent[0])
        * (1 if random.random() < 0.75 else -0.6)
    )
    canvas.paint(np.ones((height, width), np.float32), mood, "foliage")
    box = (0, 0, extent[1], extent[0])
    leaves(canvas, 26, box, random.uniform(0.2, 0.36), light + 2, lit, random, spread=11)
    canvas.blur(random.uniform(0.012, 0.03))
    count = int(random.integers(0, 14))
    if count:
        r = random.uniform(0.015, 0.06, count)
        x, y = random.uniform(0, extent[1], count), random.uniform(0, extent[0] * 0.7, count)
        discs = Strokes(
            x - r, y, 0.0, 2 * r, r, "disc", light=light + random.uniform(14, 32, count), rim=-4
        )
        canvas.scatter(discs, "foliage", air=Air(0.15))
        canvas.blur(0.006)


def _border(
    canvas: Canvas, lit: Light, random: np.random.Generator, extent: tuple[float, float]
) -> None:
    """Paint a flower bed: a hedge behind, earth before."""
    height, width = canvas.height, canvas.width
    ground = extent[0] * random.uniform(0.72, 0.86)
    canvas.paint(
        np.ones((height, width), np.float32),
        26 + 5 * texture(height, width, 4, 4, 3, random),
        "foliage",
    )
    leaves(canvas, 44, (0, -0.05, extent[1], ground), 0.17, 38, lit, random, spread=9)
    canvas.blur(random.uniform(0.008, 0.016))
    paint_soil(canvas, ground, random)
    leaves(canvas, 18, (0, ground - 0.06, extent[1], ground + 0.03), 0.13, 42, lit, random)
    canvas.blur(0.005)


def _meadow(
    canvas: Canvas, lit: Light, random: np.random.Generator, extent: tuple[float, float]
) -> float:
    """Paint sky, a far wood and grass; return the horizon."""
    horizon = extent[0] * random.uniform(0.24, 0.45)
    paint_sky(canvas, horizon, random, random.uniform(0.0, 0.9))
    width = canvas.width
    wood = horizon - 0.05 - 0.025 * texture(1, width, 1, 6, 3, random)
    tone = 40 + 5 * texture(canvas.height, width, 10, 10, 2, random)
    canvas.paint(np.clip((canvas.rows - wood) * canvas.unit, 0, 1), tone, "forest", air=Air(0.28))
    slope = horizon + 0.01 * texture(1, width, 1, 2, 1, random)
    away = np.clip((canvas.rows - horizon) / (extent[0] - horizon), 0, 1)
    tone = 62 - 20 * away + 4 * texture(canvas.height, width, 12, 3, 2, random)
    canvas.paint(np.clip((canvas.rows - slope) * canvas.unit, 0, 1), tone, "foliage", air=Air(0.08))
    grass(canvas, 70, (0, horizon + 0.05, extent[1], extent[0] * 1.1), 0.2, 50, lit, random)
    canvas.blur(random.uniform(0.004, 0.01))
    return horizon


def _against_sky(
    canvas: Canvas, lit: Light, random: np.random.Generator, extent: tuple[float, float]
) -> None:
    """Paint the view from below: mostly sky, a fringe of grass."""
    paint_sky(canvas, extent[0] * 0.95, random, random.uniform(0.2, 1.1))
    canvas.blur(0.006)
    grass(canvas, 44, (0, extent[0] * 0.97, extent[1], extent[0] * 1.15), 0.3, 48, lit, random)
    canvas.blur(0.006)


def _places(
    count: int, radius: float, extent: tuple[float, float], random: np.random.Generator
) -> list[tuple[float, float]]:
    """Return places for heads of a radius, spread out: of many tries each takes the freest."""
    placed: list[tuple[float, float]] = []
    for _ in range(count):
        x = random.uniform(0.6 * radius, max(extent[1] - 0.6 * radius, 0.7 * radius), 12)
        y = random.uniform(0.9 * radius, max(extent[0] * 0.82 - 0.6 * radius, radius), 12)
        free = np.array(
            [
                min((np.hypot(a - p, b - q) for p, q in placed), default=1)
                for a, b in zip(x, y, strict=True)
            ]
        )
        best = int(free.argmax())
        if placed and free[best] < 1.1 * radius:
            break
        placed.append((float(x[best]), float(y[best])))
    return placed


def paint_flowers(
    back: Canvas,
    size: tuple[int, int],
    extent: tuple[float, float],
    coin: str,
    random: np.random.Generator,
    species: str = "",
) -> Canvas:
    """Paint a picture of flowers; `back` takes what is behind the heads and is enlarged to `size`.

    `extent` is (height, width) in scene units; `coin` the colour of the two-coloured species.
    """
    angle = UP + random.uniform(-1.1, 1.1)
    lit = Light((float(np.cos(angle)), float(np.sin(angle))), float(random.uniform(0.6, 1.3)))
    chosen = [species] if species else _choose(random)
    layout = random.choice(["portrait", "group", "meadow"], p=[0.34, 0.4, 0.26])
    if layout == "meadow":
        return _paint_meadow(back, size, extent, coin, random, chosen, lit)
    ground = ["bokeh", "border", "sky"][int(random.choice(3, p=[0.55, 0.27, 0.18]))]
    {"bokeh": _bokeh, "border": _border, "sky": _against_sky}[ground](back, lit, random, extent)
    few = layout == "portrait"
    radius = random.uniform(0.23, 0.36) if few else random.uniform(0.13, 0.21)
    count = (
        int(random.integers(1, 3))
        if few
        else int(random.integers(3, 8) * max(extent[0] * extent[1], 1))
    )
    places = sorted(_places(count, radius, extent, random), key=lambda place: place[1])
    heads = []
    for k, (x, y) in enumerate(places):
        kind = chosen[int(random.integers(len(chosen)))] if k else chosen[0]
        own = radius * HABIT.get(kind, 1.0) * random.uniform(0.85, 1.1)
        heads.append((kind, _head(back, (x, y), own, kind, coin, lit, random)))
    if ground != "sky":
        near = (0.0, extent[0] * 0.78, extent[1], extent[0] * 1.05)
        leaves(back, 12, near, 0.15 if few else 0.12, 43, lit, random)
    stems(back, [(kind, head, extent[0] + 0.08) for kind, head in heads])
    canvas = back.enlarged(*size)
    for kind, head in heads:
        head.canvas = canvas
        dx, dy = -0.25 * lit.sun[0] * head.radius, 0.3 * head.radius
        if ground != "sky":
            canvas.shade(head.x + dx, head.y + dy, 1.2 * head.radius, 0.3 * min(lit.strength, 1))
        draw(kind, head)
    if ground != "sky" and random.random() < 0.6:
        leaves(canvas, 5, (0, extent[0] * 0.95, extent[1], extent[0] * 1.05), 0.16, 47, lit, random)
    return canvas


def _choose(random: np.random.Generator) -> list[str]:
    """Choose the species of a picture: mostly one or two."""
    count = int(random.choice([1, 2, 3], p=[0.45, 0.37, 0.18]))
    return [SPECIES[k] for k in random.choice(len(SPECIES), count, replace=False)]


def _head(
    canvas: Canvas,
    place: tuple[float, float],
    radius: float,
    kind: str,
    coin: str,
    lit: Light,
    random: np.random.Generator,
    air: Air = CLEAR,
) -> Head:
    """Return a head in a colour of its law: the coin's, or one that its lightness tells."""
    law = colour_law(kind)
    draw = int(random.integers(len(law.colours)))
    colour = coin if kind == TWO_COLOURED else law.colours[draw].name
    return Head(
        canvas, *place, radius, colour, lit, np.random.default_rng(random.integers(2**32)), air
    )


def _paint_meadow(
    back: Canvas,
    size: tuple[int, int],
    extent: tuple[float, float],
    coin: str,
    random: np.random.Generator,
    chosen: list[str],
    lit: Light,
) -> Canvas:
    """Paint a field of flowers that grow smaller and paler towards the horizon."""
    horizon = _meadow(back, lit, random, extent)
    count = int(random.integers(12, 20) * min(max(extent[1] / extent[0], 0.7), 3))
    depth = np.sort(random.uniform(0, 1, count)) ** 1.4  # 0 far .. 1 near
    across = (np.arange(count) * 0.618 + random.uniform() + random.normal(0, 0.06, count)) % 1.0
    heads = []
    for near, place in zip(depth, across, strict=True):
        kind = chosen[int(random.integers(len(chosen)))]
        radius = (0.022 + 0.125 * near**1.3) * HABIT.get(kind, 1.0)
        y = horizon + 0.02 + (extent[0] * 0.86 - horizon) * near
        air = Air(0.35 * (1 - near) ** 1.5)
        head = _head(back, (place * extent[1], y), radius, kind, coin, lit, random, air)
        heads.append(
            (kind, head, min(y + radius * (3.2 if kind in UPRIGHT else 2.6), extent[0] + 0.05))
        )
    stems(back, [entry for entry, near in zip(heads, depth, strict=True) if near > 0.12], Air(0.06))
    canvas = back.enlarged(*size)
    for kind, head, _ in heads:
        head.canvas = canvas
        canvas.shade(head.x, head.y + 0.3 * head.radius, 1.2 * head.radius, 0.2)
        draw(kind, head)
    grass(canvas, 16, (0, extent[0] * 0.98, extent[1], extent[0] * 1.12), 0.24, 48, lit, random)
    return canvas
