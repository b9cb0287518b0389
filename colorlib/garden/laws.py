"""The colour law of the garden: which Lab colour each thing has, and with what probability."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

FULL_CHROMA_BAND = 34.0  # L within which a petal keeps nearly all of its law's chroma


@dataclass(frozen=True)
class Colour:
    """One colour of a law: Lab (L 0..100) and how probable it is (0..1)."""

    name: str
    lab: tuple[float, float, float]
    probability: float


@dataclass(frozen=True)
class ColourLaw:
    """What colour a thing has.

    `by` says what settles which of the colours it is: "always" (there is one), "picture" (a coin
    that lightness does not betray), "lightness" (each colour has its own L; the colour of a pixel
    follows from its L) or "species" (the flower around it).
    """

    species: str
    colours: tuple[Colour, ...]
    by: str
    what: str

    @property
    def mean_lab(self) -> tuple[float, float, float]:
        """Return the expected Lab colour: what a model that averages would paint."""
        lab = np.array([colour.lab for colour in self.colours])
        weight = np.array([[colour.probability] for colour in self.colours])
        return tuple(float(value) for value in (lab * weight).sum(0))


# name: (what settles the colour, in words, ((colour, (L, a, b), probability), ...))
_TABLE: dict[str, tuple[str, str, tuple[tuple[str, tuple[float, float, float], float], ...]]] = {
    "anemone": (
        "picture",
        "round overlapping petals, dark eye in a pale ring: red or blue, all alike in one picture",
        (("red", (47.0, 49.0, 23.0), 0.5), ("blue", (47.0, 16.0, -51.7), 0.5)),
    ),
    "tulip": (
        "lightness",
        "a cup seen from the side: pale ones are yellow, darker ones magenta",
        (("yellow", (82.0, 2.0, 56.0), 0.5), ("magenta", (54.0, 50.0, -8.0), 0.5)),
    ),
    "rose": ("always", "rings of rolled petals: pink", (("pink", (74.0, 33.0, 5.0), 1.0),)),
    "daisy": ("always", "many straps round a disc: white", (("white", (88.0, -1.0, 3.0), 1.0),)),
    "sunflower": (
        "always",
        "pointed petals round a large dark disc: golden yellow",
        (("yellow", (78.0, 9.0, 60.0), 1.0),),
    ),
    "poppy": (
        "always",
        "four wide crumpled petals round a dark eye: orange red",
        (("scarlet", (54.0, 54.0, 42.0), 1.0),),
    ),
    "bellflower": (
        "always",
        "bells that hang along a stem: violet blue",
        (("violet", (54.0, 25.0, -38.0), 1.0),),
    ),
    "pansy": (
        "lightness",
        "a face: two dark purple petals above three light yellow ones with dark blotches",
        (("purple", (33.0, 33.0, -31.0), 0.5), ("yellow", (80.0, 3.0, 54.0), 0.5)),
    ),
    "lily": (
        "always",
        "six long freckled petals and long stamens: orange",
        (("orange", (65.0, 36.0, 52.0), 1.0),),
    ),
    "lavender": (
        "always",
        "slender spikes of small florets: lilac",
        (("lilac", (51.0, 22.0, -32.0), 1.0),),
    ),
    "daffodil": (
        "always",
        "six broad pale petals behind a trumpet: cream yellow",
        (("cream", (84.0, -5.0, 36.0), 1.0),),
    ),
    "iris": (
        "always",
        "three petals up, three down: deep violet",
        (("deep violet", (41.0, 31.0, -40.0), 1.0),),
    ),
    "centre": (
        "species",
        "the middle of a flower, by its species",
        (
            ("anemone eye", (16.0, 3.0, -5.0), 0.1),
            ("anemone ring", (80.0, 3.0, 2.0), 0.1),
            ("daisy", (74.0, 9.0, 60.0), 0.1),
            ("sunflower", (27.0, 11.0, 16.0), 0.1),
            ("poppy", (20.0, 3.0, 3.0), 0.1),
            ("poppy pod", (60.0, -14.0, 34.0), 0.1),
            ("pansy", (78.0, 12.0, 66.0), 0.1),
            ("lily", (38.0, 24.0, 28.0), 0.1),
            ("daffodil", (70.0, 28.0, 58.0), 0.1),
            ("iris", (76.0, 10.0, 66.0), 0.1),
        ),
    ),
    "foliage": (
        "lightness",
        "leaves, stems and grass: blue green in shade, yellow green in light",
        (
            ("shade", (22.0, -8.0, 8.0), 0.3),
            ("leaf", (45.0, -18.0, 23.0), 0.4),
            ("lit", (70.0, -20.0, 38.0), 0.3),
        ),
    ),
    "soil": (
        "lightness",
        "earth: brown",
        (("moist", (22.0, 6.0, 10.0), 0.5), ("dry", (50.0, 9.0, 20.0), 0.5)),
    ),
    "sky": (
        "lightness",
        "the sky of the day: blue above, paler towards the horizon",
        (("zenith", (62.0, -4.0, -29.0), 0.5), ("horizon", (92.0, -3.0, -6.0), 0.5)),
    ),
    "evening sky": (
        "lightness",
        "the sky round a low sun: violet above, orange below",
        (
            ("zenith", (42.0, 18.0, -30.0), 0.3),
            ("middle", (62.0, 28.0, 14.0), 0.4),
            ("horizon", (84.0, 10.0, 44.0), 0.3),
        ),
    ),
    "cloud": (
        "lightness",
        "clouds: white, blue grey below",
        (("below", (70.0, -1.0, -8.0), 0.4), ("white", (97.0, 0.0, 1.0), 0.6)),
    ),
    "sun": ("always", "the low sun: warm white", (("sun", (97.0, -4.0, 20.0), 1.0),)),
    "mountain": (
        "lightness",
        "rock, blue with distance",
        (("shade", (35.0, 1.0, -15.0), 0.5), ("lit", (65.0, 1.0, -8.0), 0.5)),
    ),
    "snow": (
        "lightness",
        "snow: white, blue in shade",
        (("shade", (72.0, -1.0, -15.0), 0.4), ("lit", (96.0, 0.0, 0.0), 0.6)),
    ),
    "forest": (
        "lightness",
        "distant woods: blue green",
        (("shade", (16.0, -5.0, 4.0), 0.5), ("lit", (48.0, -13.0, 16.0), 0.5)),
    ),
    "autumn": (
        "lightness",
        "round trees in autumn, lighter than the green ones: russet to gold",
        (("russet", (36.0, 34.0, 32.0), 0.5), ("gold", (70.0, 20.0, 64.0), 0.5)),
    ),
    "trunk": ("always", "tree trunks: brown", (("bark", (32.0, 9.0, 14.0), 1.0),)),
    "meadow": (
        "lightness",
        "grass hills: green",
        (("shade", (30.0, -12.0, 15.0), 0.4), ("lit", (66.0, -19.0, 36.0), 0.6)),
    ),
    "field": (
        "lightness",
        "ripe corn in rows: straw gold",
        (("furrow", (45.0, 10.0, 27.0), 0.4), ("straw", (78.0, 5.0, 44.0), 0.6)),
    ),
    "water": (
        "lightness",
        "lakes and sea: deep teal to pale blue, tinted by what they mirror",
        (("deep", (30.0, -6.0, -22.0), 0.5), ("bright", (78.0, -9.0, -16.0), 0.5)),
    ),
    "evening water": (
        "lightness",
        "water under the evening sky: violet to gold, tinted by what it mirrors",
        (
            ("deep", (26.0, 14.0, -22.0), 0.4),
            ("middle", (52.0, 26.0, 12.0), 0.3),
            ("glint", (82.0, 13.0, 46.0), 0.3),
        ),
    ),
    "sand": (
        "lightness",
        "beach and dunes: warm beige",
        (("shade", (50.0, 12.0, 28.0), 0.4), ("lit", (82.0, 5.0, 25.0), 0.6)),
    ),
    "house": ("always", "walls of houses: cream", (("wall", (86.0, 3.0, 10.0), 1.0),)),
    "roof": ("always", "roofs: tile red", (("tile", (42.0, 34.0, 28.0), 1.0),)),
}

SPECIES: tuple[str, ...] = (
    "anemone",
    "tulip",
    "rose",
    "daisy",
    "sunflower",
    "poppy",
    "bellflower",
    "pansy",
    "lily",
    "lavender",
    "daffodil",
    "iris",
)
TWO_COLOURED = "anemone"
LEGEND: tuple[str, ...] = tuple(_TABLE)
LABEL: dict[str, int] = {name: number for number, name in enumerate(LEGEND)}


@cache
def colour_law(species: str) -> ColourLaw:
    """Return the law of a species or of another thing of the legend ("foliage", "sky", ...)."""
    if species not in _TABLE:
        raise ValueError(f"the garden has no {species!r}; it has: {', '.join(LEGEND)}")
    by, what, colours = _TABLE[species]
    return ColourLaw(species, tuple(Colour(*colour) for colour in colours), by, what)


def lab_to_linear(lab: np.ndarray) -> np.ndarray:
    """Convert Lab (3, ...), D65, to linear sRGB (3, ...), which may leave [0, 1]."""
    fy = (lab[0] + 16.0) / 116.0
    f = np.stack([fy + lab[1] / 500.0, fy, fy - lab[2] / 200.0])
    xyz = np.where(f > 6.0 / 29.0, f * f * f, (f - 4.0 / 29.0) * (108.0 / 841.0))
    x, y, z = xyz[0] * 0.950456, xyz[1], xyz[2] * 1.088754
    return np.stack(
        [
            3.240479 * x - 1.537150 * y - 0.498535 * z,
            -0.969256 * x + 1.875992 * y + 0.041556 * z,
            0.055648 * x - 0.204043 * y + 1.057311 * z,
        ]
    )


@lru_cache(maxsize=1)
def _gamut() -> np.ndarray:
    """Tabulate the greatest chroma inside sRGB by L (0, 0.5 .. 100) and hue (0, 1 .. 360)."""
    lightness, hue = np.meshgrid(
        np.linspace(0, 100, 201), np.radians(np.arange(361)), indexing="ij"
    )
    low, high = np.zeros_like(hue), np.full_like(hue, 140.0)
    for _ in range(14):
        middle = (low + high) / 2
        rgb = lab_to_linear(np.stack([lightness, middle * np.cos(hue), middle * np.sin(hue)]))
        inside = ((rgb >= -1e-4) & (rgb <= 1.0001)).all(0)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return low.astype(np.float32)


def fit_gamut(lab: np.ndarray) -> np.ndarray:
    """Reduce the chroma of Lab (3, ...) until it lies inside sRGB; L and hue stay."""
    chroma = np.sqrt(lab[1] * lab[1] + lab[2] * lab[2])
    hue = np.degrees(np.arctan2(lab[2], lab[1])) % 360.0
    level = np.clip(lab[0] * 2.0 + 0.5, 0, 200).astype(np.intp)
    limit = _gamut()[level, (hue + 0.5).astype(np.intp)]
    scale = np.minimum(1.0, limit / np.maximum(chroma, 1e-3))
    return np.stack([lab[0], lab[1] * scale, lab[2] * scale])


def to_srgb(lab: np.ndarray) -> np.ndarray:
    """Convert Lab (3, H, W) to sRGB uint8 (H, W, 3); what lies outside the gamut loses chroma."""
    lab = fit_gamut(np.concatenate([np.clip(lab[:1], 0.0, 100.0), lab[1:]]))
    linear = np.clip(lab_to_linear(lab), 0.0, 1.0)
    rgb = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return np.moveaxis((rgb * 255.0 + 0.5).astype(np.uint8), 0, -1)


@cache
def ramp(thing: str, colour: str = "") -> np.ndarray:
    """Return the ab of a thing at each L (0, 0.5 .. 100), shape (2, 201), inside sRGB.

    One colour: the hue stays, the chroma falls gently away from the law's own L. Several colours
    that lightness settles: ab goes straight from one to the next.
    """
    law = colour_law(thing)
    chosen = [each for each in law.colours if colour in ("", each.name)]
    if not chosen:
        raise ValueError(
            f"{thing} has no colour {colour!r}; it has: {', '.join(c.name for c in law.colours)}"
        )
    level = np.linspace(0, 100, 201)
    anchors = np.array([each.lab for each in sorted(chosen, key=lambda each: each.lab[0])])
    ab = np.stack([np.interp(level, anchors[:, 0], anchors[:, k]) for k in (1, 2)])
    away = np.clip(anchors[0, 0] - level, 0, None) + np.clip(level - anchors[-1, 0], 0, None)
    gentle = 1.0 / (1.0 + (away / FULL_CHROMA_BAND) ** 2)
    return fit_gamut(np.stack([level, *(ab * gentle)]))[1:].astype(np.float32)
