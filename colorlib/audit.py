"""Look a data set over before it is trusted: sizes, duplicates, pictures that hold no colour."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from colorlib import metrics

if TYPE_CHECKING:
    from colorlib.datasets import PictureSet

HASH_SIDE = 8
# Judged by eye on 3,377 flower photos: within these every pair was one flower seen twice (16), and
# two such pairs lay beyond. The hash alone also pairs any two bright flowers in the middle.
NEAR_BITS = 8  # of 64
NEAR_CORRELATION = 0.75  # of the grey thumbnails
THUMBNAIL_SIDE = 32


@dataclass(frozen=True)
class Audit:
    """What a look at a set found; near pairs are (name, name) and hold no exact duplicate."""

    name: str
    pictures: int
    splits: tuple[int, int, int]
    skipped: list[str]
    sizes: list[tuple[tuple[int, int], int]]
    short_sides: tuple[int, int, int]
    exact: list[list[str]]
    near: list[tuple[str, str]]
    near_mirrored: list[tuple[str, str]]
    across_splits: int
    true_grey: list[str]

    def rows(self) -> list[dict[str, str]]:
        """Return the findings as rows of a table."""
        common, times = self.sizes[0]
        shortest, median, longest = self.short_sides
        findings = {
            "pictures": f"{self.pictures}",
            "training / validation / test": " / ".join(map(str, self.splits)),
            "unreadable files": f"{len(self.skipped)}",
            "short side (smallest / median / largest)": f"{shortest} / {median} / {longest} px",
            "different sizes": f"{len(self.sizes)}, {common[1]} x {common[0]} the most ({times})",
            "exact duplicates": f"{sum(len(group) - 1 for group in self.exact)}",
            "near duplicates (pairs)": f"{len(self.near)}",
            "near duplicates, mirrored (pairs)": f"{len(self.near_mirrored)}",
            "near pairs that the split separates": f"{self.across_splits}",
            f"grey pictures (mean chroma below {metrics.GREY_CHROMA:g})": f"{len(self.true_grey)}",
        }
        return [{"what": what, "found": found} for what, found in findings.items()]


def audit(pictures: PictureSet) -> Audit:
    """Count sizes, exact and near duplicates (mirrored too) and true-grey pictures of a set."""
    short = sorted(min(shape) for shape in pictures.shapes)
    by_digest: dict[str, list[str]] = {}
    for name, digest in zip(pictures.names, pictures.digests, strict=True):
        by_digest.setdefault(digest, []).append(name)
    thumbnails = np.stack([_grey(picture) for picture in pictures.pictures])
    near, mirrored = _near(thumbnails, thumbnails), _near(thumbnails, thumbnails[:, :, ::-1])
    digests, roles = pictures.digests, pictures.roles
    near = [(i, j) for i, j in near if digests[i] != digests[j]]
    upright = set(near)
    mirrored = [pair for pair in mirrored if pair not in upright]
    chroma = metrics.mean_chroma(pictures.pictures)
    return Audit(
        name=pictures.name,
        pictures=len(pictures),
        splits=(len(pictures.train), len(pictures.validation), len(pictures.test)),
        skipped=pictures.skipped,
        sizes=Counter(pictures.shapes).most_common(),
        short_sides=(short[0], short[len(short) // 2], short[-1]),
        exact=[names for names in by_digest.values() if len(names) > 1],
        near=[(pictures.names[i], pictures.names[j]) for i, j in near],
        near_mirrored=[(pictures.names[i], pictures.names[j]) for i, j in mirrored],
        across_splits=sum(roles[i] != roles[j] for i, j in near + mirrored),
        true_grey=[
            name
            for name, value in zip(pictures.names, chroma, strict=True)
            if value < metrics.GREY_CHROMA
        ],
    )


def _grey(picture: np.ndarray) -> np.ndarray:
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    image = Image.fromarray(picture).convert("L").resize(side, Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float32)


def difference_hash(thumbnails: np.ndarray) -> np.ndarray:
    """Return 64 signs (+1, -1) per grey picture (N, H, W): is a cell brighter than its left one?"""
    cells = np.stack(
        [
            np.asarray(
                Image.fromarray(grey).resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)
            )
            for grey in thumbnails
        ]
    )
    return np.where(np.diff(cells, axis=2) > 0, 1.0, -1.0).reshape(len(cells), -1).astype("f4")


def _near(left: np.ndarray, right: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (i < j) whose hashes differ in at most NEAR_BITS and whose thumbnails correlate."""
    signs_left, signs_right = difference_hash(left), difference_hash(right)
    flat_left, flat_right = _standardise(left), _standardise(right)
    agreement = HASH_SIDE**2 - 2 * NEAR_BITS
    pairs = []
    for start in range(0, len(left), 1024):
        rows, columns = np.nonzero(signs_left[start : start + 1024] @ signs_right.T >= agreement)
        pairs += [(int(i) + start, int(j)) for i, j in zip(rows, columns, strict=True)]
    return [(i, j) for i, j in pairs if i < j and flat_left[i] @ flat_right[j] > NEAR_CORRELATION]


def _standardise(thumbnails: np.ndarray) -> np.ndarray:
    flat = thumbnails.reshape(len(thumbnails), -1)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
