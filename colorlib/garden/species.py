"""The species: how the head of each flower is drawn; small heads come out of a stock of sprites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from .canvas import CLEAR, Air, Canvas, Patch, Strokes
from .laws import LABEL, SPECIES, ramp
from .scenery import TURN, UP, Light


@dataclass
class Head:
    """One flower head: where, how large (scene units), which colour, in which light and air."""

    canvas: Canvas
    x: float
    y: float
    radius: float
    colour: str
    light: Light
    random: np.random.Generator
    air: Air = CLEAR

    def patch(self, reach: float, turn: bool = True) -> Patch:
        """Return the window this head is drawn in."""
        r = self.random
        tilt, lean, roll = r.uniform(0.05, 0.45), UP + r.normal(0, 0.5), r.uniform(0, TURN)
        if not turn:
            tilt, lean, roll = 0.0, 0.0, r.normal(0, 0.12)
        return Patch(self.canvas, self.x, self.y, self.radius, roll, tilt, lean, reach, self.air)

    def colours(self, thing: str, colour: str = "") -> np.ndarray:
        """Return the ramp of a thing, turned and scaled a little: no two flowers are alike."""
        angle, scale = self.random.normal(0, 0.035), self.random.normal(1, 0.04)
        c, s = np.cos(angle) * scale, np.sin(angle) * scale
        return np.array([[c, -s], [s, c]], np.float32) @ ramp(thing, colour)


def _ring(
    head: Head,
    patch: Patch,
    count: int,
    length: float,
    width: float,
    shape: str,
    light: float,
    **more,
) -> Strokes:
    """Return petals evenly round the middle, lit by the sun; `start` and `from_` place them."""
    r = head.random
    start, from_, lit = more.pop("start", 0.0), more.pop("from_", 0.08), more.pop("lit", 6.0)
    jitter = more.pop("jitter", 0.08)
    angle = start + np.arange(count) * TURN / count + r.normal(0, jitter, count) * TURN / count
    angle = r.permutation(angle)
    seen = angle + patch.roll
    strength = head.light.strength
    return Strokes(
        x=np.cos(angle) * from_,
        y=np.sin(angle) * from_,
        angle=angle,
        length=(length - from_) * r.normal(1, 0.04, count),
        width=width * r.normal(1, 0.05, count),
        shape=shape,
        light=light + lit * strength * head.light.on(seen) + r.normal(0, 1.5, count),
        side=more.pop("side", 5.0) * strength * head.light.across(seen),
        bend=r.normal(0, more.pop("bend", 0.04), count),
        **more,
    )


def daisy(head: Head) -> None:
    """Draw many white straps round a yellow disc."""
    patch, r = head.patch(1.12), head.random
    petals, count = head.colours("daisy"), int(r.integers(9, 13))
    sun = head.light.sun
    for turn, length, light in ((0.0, 1.0, 83.0), (0.5, 0.96, 89.0)):
        ring = _ring(
            head,
            patch,
            count,
            length,
            1.05 / count * 1.55,
            "strap",
            light,
            start=turn * TURN / count,
            tip=4,
            rim=9,
            vein=1.6,
            veins=7,
            shadow=0.1,
            lit=5,
        )
        patch.strokes(ring, "daisy", petals)
    patch.disc(0.33, 52, "foliage", soft=6)
    patch.disc(0.29, 73, "centre", ramp("centre", "daisy"), dome=13, sun=sun, grain=5)


def sunflower(head: Head) -> None:
    """Draw two rings of pointed golden petals round a large dark disc."""
    patch, r = head.patch(1.12), head.random
    petals, count = head.colours("sunflower"), int(r.integers(12, 16))
    for turn, length, light in ((0.5, 1.0, 70.0), (0.0, 0.93, 79.0)):
        ring = _ring(
            head,
            patch,
            count,
            length,
            0.155,
            "point",
            light,
            from_=0.3,
            start=turn * TURN / count,
            tip=4,
            rim=5,
            vein=2,
            veins=8,
            shadow=0.16,
            lit=5,
        )
        patch.strokes(ring, "sunflower", petals)
    brown = ramp("centre", "sunflower")
    patch.disc(0.46, 27, "centre", brown, dome=8, sun=head.light.sun, grain=6, wave=0.03, lobes=34)
    patch.disc(
        0.2, 22, "centre", brown, dome=6, sun=head.light.sun, grain=3, soft=0.08 / patch.pixel
    )


def anemone(head: Head) -> None:
    """Draw round overlapping petals, a pale ring and a dark eye: the species of two colours."""
    patch, r = head.patch(1.15), head.random
    petals, count = head.colours("anemone", head.colour), int(r.integers(4, 6))
    for turn, length, light in ((0.0, 1.0, 44.0), (0.5, 0.92, 50.0)):
        ring = _ring(
            head,
            patch,
            count,
            length,
            0.43,
            "round",
            light,
            start=turn * TURN / count,
            from_=0.05,
            tip=4,
            rim=5,
            vein=1.5,
            veins=14,
            fold=3,
            shadow=0.2,
            lit=5,
            side=4,
            crumple=0.03,
        )
        patch.strokes(ring, "anemone", petals)
    patch.disc(0.3, 80, "centre", ramp("centre", "anemone ring"), dome=6, wave=0.1, lobes=count * 2)
    angle = r.uniform(0, TURN, 34)
    place = r.uniform(0.2, 0.33, 34)
    eye = ramp("centre", "anemone eye")
    stamens = Strokes(
        np.cos(angle) * place, np.sin(angle) * place, angle, 0.07, 0.024, "disc", light=14
    )
    patch.strokes(stamens, "centre", eye)
    patch.disc(0.17, 17, "centre", eye, dome=14, sun=head.light.sun, grain=3)


def poppy(head: Head) -> None:
    """Draw four wide crumpled petals round a dark eye."""
    patch, r = head.patch(1.15), head.random
    petals = head.colours("poppy")
    for turn, length, light in ((0.0, 1.0, 49.0), (0.25, 0.94, 57.0)):
        ring = _ring(
            head,
            patch,
            2,
            length,
            0.78,
            "bowl",
            light,
            start=turn * TURN,
            from_=-0.12,
            jitter=0.05,
            tip=9,
            rim=5,
            vein=2.2,
            veins=21,
            fold=2,
            shadow=0.24,
            lit=6,
            side=6,
            crumple=0.05,
            bend=0.09,
        )
        patch.strokes(ring, "poppy", petals)
    dark = ramp("centre", "poppy")
    blotch = _ring(head, patch, 4, 0.4, 0.13, "round", 19.0, from_=0.1, rim=0, lit=1)
    patch.strokes(blotch, "centre", dark)
    angle, place = r.uniform(0, TURN, 30), r.uniform(0.15, 0.27, 30)
    stamens = Strokes(
        np.cos(angle) * place, np.sin(angle) * place, angle, 0.06, 0.022, "disc", light=15
    )
    patch.strokes(stamens, "centre", dark)
    patch.disc(
        0.13,
        60,
        "centre",
        ramp("centre", "poppy pod"),
        dome=12,
        sun=head.light.sun,
        wave=0.08,
        lobes=8,
    )


def rose(head: Head) -> None:
    """Draw rings of rolled petals, each in the shadow of the next."""
    patch, r = head.patch(1.1), head.random
    petals = head.colours("rose")
    start = r.uniform(0, TURN)
    for count, far, size, light in (
        (5, 0.5, 0.5, 70.0),
        (5, 0.4, 0.43, 71.0),
        (4, 0.27, 0.36, 70.0),
        (4, 0.17, 0.27, 67.0),
        (3, 0.09, 0.18, 64.0),
    ):
        start += 0.75
        ring = _ring(
            head,
            patch,
            count,
            far + size,
            size * 1.15,
            "petal",
            light,
            from_=far - size,
            start=start,
            tip=15,
            rim=-2,
            shadow=0.3,
            lit=5,
            side=4,
            jitter=0.1,
            bend=0.12,
            vein=0.8,
            veins=9,
        )
        ring.length[:] = 2 * size
        patch.strokes(ring, "rose", petals)
    angle = start + np.array([0.0, 2.0, 4.0])
    swirl = Strokes(
        -0.08 * np.cos(angle),
        -0.08 * np.sin(angle),
        angle,
        0.16,
        0.06,
        "petal",
        light=58,
        tip=10,
        bend=0.5,
        shadow=0.3,
    )
    patch.strokes(swirl, "rose", petals)


def pansy(head: Head) -> None:
    """Draw a face: two dark petals behind, three light ones before, with dark blotches."""
    patch = head.patch(1.15, turn=False)
    purple, yellow = head.colours("pansy", "purple"), head.colours("pansy", "yellow")
    lit = head.light

    def petals(angle, length, width, light):
        angle = np.asarray(angle)
        return Strokes(
            -0.05 * np.cos(angle),
            -0.05 * np.sin(angle),
            angle,
            length,
            width,
            "fan",
            tip=5,
            rim=5,
            vein=1.5,
            veins=13,
            light=light + 4 * lit.strength * lit.on(angle),
            side=4 * lit.across(angle),
            shadow=0.2,
            crumple=0.03,
        )

    patch.strokes(petals([UP - 0.5, UP + 0.45], 1.05, 0.52, 32), "pansy", purple)
    patch.strokes(petals([np.pi + 0.02, -0.02], 0.92, 0.44, 79), "pansy", yellow)
    patch.strokes(petals([np.pi / 2], 0.92, 0.62, 81), "pansy", yellow)
    blotch = Strokes(
        0.0,
        0.05,
        np.array([np.pi - 0.05, 0.05, np.pi / 2 - 0.35, np.pi / 2 + 0.35, np.pi / 2]),
        np.array([0.52, 0.52, 0.5, 0.5, 0.56]),
        0.13,
        "round",
        light=26,
        rim=-6,
        veins=9,
        vein=3,
    )
    patch.strokes(blotch, "pansy", purple)
    patch.disc(0.1, 78, "centre", ramp("centre", "pansy"), y=0.06, dome=10, sun=lit.sun)


def lily(head: Head) -> None:
    """Draw six long pointed petals that curl back, freckles, and long stamens."""
    patch, r = head.patch(1.15), head.random
    petals = head.colours("lily")
    for turn, width, light in ((0.0, 0.23, 62.0), (0.5, 0.3, 69.0)):
        ring = _ring(
            head,
            patch,
            3,
            1.05,
            width,
            "lance",
            light,
            start=turn * TURN / 3,
            from_=0.0,
            bend=0.1,
            tip=3,
            rim=7,
            fold=9,
            shadow=0.2,
            lit=6,
            side=6,
            jitter=0.03,
            crumple=0.03,
        )
        patch.strokes(ring, "lily", petals)
    dark = ramp("centre", "lily")
    angle = np.round(r.uniform(0, 6, 40)) * TURN / 6 + r.normal(0, 0.14, 40)
    place = r.uniform(0.2, 0.55, 40)
    freckles = Strokes(
        np.cos(angle) * place, np.sin(angle) * place, angle, 0.045, 0.016, "disc", light=40
    )
    patch.strokes(freckles, "centre", dark)
    patch.disc(0.14, 58, "foliage", soft=0.1 / patch.pixel)
    angle = np.arange(6) * TURN / 6 + 0.5 + r.normal(0, 0.1, 6)
    patch.strokes(Strokes(0.0, 0.0, angle, 0.5, 0.018, "line", light=70), "foliage")
    tips = Strokes(
        np.cos(angle) * 0.5, np.sin(angle) * 0.5, angle + 1.2, 0.16, 0.035, "disc", light=32
    )
    tips.x -= 0.08 * np.cos(tips.angle)
    tips.y -= 0.08 * np.sin(tips.angle)
    patch.strokes(tips, "centre", dark)


def daffodil(head: Head) -> None:
    """Draw six broad pale petals behind an orange trumpet."""
    patch = head.patch(1.12)
    petals = head.colours("daffodil")
    for turn, light in ((0.0, 82.0), (0.5, 89.0)):
        ring = _ring(
            head,
            patch,
            3,
            1.0,
            0.37,
            "egg",
            light,
            start=turn * TURN / 3,
            from_=0.05,
            jitter=0.04,
            tip=3,
            rim=6,
            fold=4,
            shadow=0.16,
            lit=4,
            vein=1,
            veins=10,
        )
        patch.strokes(ring, "daffodil", petals)
    trumpet, sun = ramp("centre", "daffodil"), head.light.sun
    patch.canvas.shade(head.x, head.y, head.radius * 0.62, 0.22)
    patch.disc(0.42, 74, "centre", trumpet, dome=8, sun=sun, wave=0.07, lobes=14)
    patch.disc(
        0.32, 62, "centre", trumpet, dome=-14, sun=sun, wave=0.04, lobes=14, soft=0.12 / patch.pixel
    )
    patch.disc(0.1, 76, "centre", trumpet, dome=8, sun=sun, soft=2)


def tulip(head: Head) -> None:
    """Draw a cup of pointed petals seen from the side."""
    patch, r = head.patch(1.2, turn=False), head.random
    yellow = head.colour == "yellow"
    petals, base = head.colours("tulip", head.colour), 80.0 if yellow else 50.0
    open_ = r.uniform(0.8, 1.25)
    lit = head.light

    def layer(x, lean, length, width, light, **more):
        angle = UP + np.asarray(lean) * open_ + patch.roll
        return Strokes(
            np.asarray(x),
            0.85,
            angle,
            length,
            width,
            "egg",
            light=base + light + 3 * lit.on(angle),
            tip=6,
            rim=6,
            side=6 * lit.strength * lit.across(angle),
            vein=1.2,
            veins=9,
            shadow=0.14,
            **more,
        )

    patch.strokes(
        layer([-0.1, 0.1, 0.0], [-0.16, 0.16, 0.0], [1.62, 1.62, 1.7], 0.33, -9), "tulip", petals
    )
    bend = np.array([0.2, -0.2])
    patch.strokes(layer([-0.22, 0.22], [-0.3, 0.3], 1.72, 0.36, -2, bend=bend), "tulip", petals)
    patch.strokes(layer([0.0], [r.normal(0, 0.04)], 1.5, 0.5, 4, fold=3), "tulip", petals)


def bellflower(head: Head) -> None:
    """Draw bells that hang left and right of a stem, the largest below."""
    patch, r = head.patch(1.35, turn=False), head.random
    petals, lit = head.colours("bellflower"), head.light
    stem = Strokes(0.0, 1.6, UP, 2.6, 0.035, "line", light=48, side=6 * lit.across(np.array(UP)))
    patch.strokes(stem, "foliage")
    side = 1 if r.random() < 0.5 else -1
    for y, size in ((-0.95, 0.42), (-0.62, 0.55), (-0.2, 0.68), (0.28, 0.74)):
        side = -side
        x = side * (0.1 + 0.34 * size)
        angle = np.pi / 2 - side * r.uniform(0.15, 0.45)
        stalk = np.arctan2(0.14, x)
        patch.strokes(
            Strokes(0.0, y - 0.12, stalk, np.hypot(x, 0.14), 0.025, "line", light=50), "foliage"
        )
        _bell(patch, petals, lit, x, y, angle, size)


def _bell(
    patch: Patch, petals: np.ndarray, lit: Light, x: float, y: float, angle: float, size: float
) -> None:
    """Draw one bell with its flared lobes and green cap; (x, y) is where it hangs."""
    across = float(lit.across(np.array(angle)))
    mouth_x, mouth_y = x + np.cos(angle) * size * 0.82, y + np.sin(angle) * size * 0.82
    lobes = angle + np.array([-0.95, 0.95, 0.0])
    tips = Strokes(
        mouth_x - np.sin(angle) * size * np.array([0.3, -0.3, 0.0]) * -1,
        mouth_y + np.cos(angle) * size * np.array([0.3, -0.3, 0.0]) * -1,
        lobes,
        size * 0.42,
        size * 0.22,
        "leaf",
        light=np.array([54, 54, 60.0]),
        rim=4,
    )
    body = Strokes(
        x,
        y,
        angle,
        size * 0.95,
        size * 0.44,
        "bell",
        light=51,
        tip=5,
        side=9 * across,
        rim=5,
        vein=2.5,
        veins=8,
    )
    patch.strokes(body, "bellflower", petals)
    patch.strokes(tips, "bellflower", petals)
    cap = Strokes(
        x, y, angle + np.array([-0.6, 0.6, 0.0]), size * 0.26, size * 0.08, "leaf", light=46
    )
    patch.strokes(cap, "foliage")


def lavender(head: Head) -> None:
    """Draw a slender spike of whorls of florets."""
    patch, r = head.patch(1.25, turn=False), head.random
    petals, lit = head.colours("lavender"), head.light
    patch.strokes(Strokes(0.0, 1.5, UP, 2.3, 0.03, "line", light=52), "foliage")
    y = np.repeat(np.linspace(0.75, -1.0, 11), 6) + r.normal(0, 0.03, 66)
    side = np.tile(np.array([-1.0, 1.0, -0.5, 0.5, 0.0, 0.15]), 11) * (0.9 + 0.1 * y)
    angle = UP + side * 0.75 + r.normal(0, 0.15, 66)
    florets = Strokes(
        side * 0.06,
        y,
        angle,
        0.22 * (0.75 + 0.35 * (y + 1) / 2),
        0.06,
        "round",
        light=53 + 9 * side * lit.sun[0] * lit.strength + r.normal(0, 6, 66),
        tip=6,
        rim=6,
        shadow=0.1,
    )
    patch.strokes(florets, "lavender", petals)


def iris(head: Head) -> None:
    """Draw three petals up and three that fall, with a yellow beard."""
    patch, r = head.patch(1.2, turn=False), head.random
    petals, lit = head.colours("iris"), head.light

    def layer(angle, length, width, light, shape="egg", **more):
        angle = np.asarray(angle) + patch.roll
        return Strokes(
            0.0,
            0.1,
            angle,
            length,
            width,
            shape,
            light=light + 3 * lit.on(angle),
            tip=4,
            rim=5,
            crumple=0.06,
            side=5 * lit.strength * lit.across(angle),
            vein=2,
            veins=12,
            shadow=0.2,
            **more,
        )

    falls = layer([0.45, np.pi - 0.45], 1.05, 0.3, 36, "fan", bend=np.array([0.35, -0.35]))
    patch.strokes(layer([UP], 1.12, 0.36, 42), "iris", petals)
    patch.strokes(
        layer([UP - 0.42, UP + 0.42], 1.12, 0.34, 48, bend=np.array([0.22, -0.22])), "iris", petals
    )
    patch.strokes(falls, "iris", petals)
    patch.strokes(layer([np.pi / 2 + r.normal(0, 0.05)], 1.1, 0.46, 41, "fan"), "iris", petals)
    beard = Strokes(
        0.0,
        0.06,
        np.array([0.5, np.pi - 0.5, np.pi / 2]),
        0.42,
        0.07,
        "leaf",
        light=74,
        vein=6,
        veins=5,
    )
    patch.strokes(beard, "centre", ramp("centre", "iris"))


DRAW: dict[str, Callable[[Head], None]] = {
    each.__name__: each
    for each in (
        anemone,
        tulip,
        rose,
        daisy,
        sunflower,
        poppy,
        bellflower,
        pansy,
        lily,
        lavender,
        daffodil,
        iris,
    )
}
UPRIGHT = (
    "tulip",
    "lavender",
    "bellflower",
    "iris",
)  # seen from the side, at the end of a straight stem
LONG_LEAVED = ("tulip", "daffodil", "iris", "lavender")
SPRITE_RADII = (3.0, 4.0, 5.2, 6.8, 9.0, 12.0, 15.0, 18.5, 22.5, 27.0)  # pixels
SPRITE_VARIANTS = 3
HABIT = {
    "lavender": 1.15,
    "bellflower": 1.1,
    "sunflower": 1.15,
    "pansy": 0.85,
    "daisy": 0.9,
}  # size


def draw(species: str, head: Head) -> None:
    """Draw a head; a small one is a sprite out of a stock."""
    pixels = head.radius * head.canvas.unit
    if pixels > SPRITE_RADII[-1]:
        DRAW[species](head)
        return
    size = int(np.argmin(np.abs(np.log(np.array(SPRITE_RADII) / pixels))))
    variant = 2 * int(head.random.integers(SPRITE_VARIANTS)) + (head.light.sun[0] > 0)
    head.canvas.paste(_sprite(species, head.colour, size, variant), head.x, head.y, head.air)


@cache
def _sprite(species: str, colour: str, size: int, variant: int) -> Canvas:
    """Draw a small head once for all, the sun from the left or from the right."""
    radius = SPRITE_RADII[size]
    side = 2 * int(np.ceil(1.4 * radius)) + 1
    canvas = Canvas(side, side, radius)
    canvas.cover = np.zeros((side, side), np.float32)
    canvas.labels[:] = LABEL[species]
    light = Light((0.5 if variant % 2 else -0.5, -0.85), 1.0)
    random = np.random.default_rng([variant, size, SPECIES.index(species)])
    middle = side / 2 / radius
    DRAW[species](Head(canvas, middle, middle, 1.0, colour, light, random))
    return canvas
