"""Colouring without learning: two transfers from a reference picture and one from colour hints.

Each of the three takes lightness, L* in 0..100, (H, W), and returns ab in Lab units, float32
(H, W, 2), to join by `color.with_lightness`. A reference is uint8 RGB, (h, w, 3), of any size.
"""

import numpy as np
import skimage.color
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn import functional as F

from . import color

WELSH_WINDOW, LEVIN_WINDOW = 5, 3  # odd sides of the squares around a pixel
FLAT = 1e-6  # a spread of L* below this is rounding: there is nothing to stretch
# Reinhard et al.: from linear RGB to the cones' LMS, then from log LMS to l, alpha, beta
LMS_FROM_RGB = np.array(
    [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]]
)
OPPONENT_FROM_LOG = np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]]) / np.sqrt([[3], [6], [2]])
# Level 1 of 8 bits; black, whose logarithm has no end, counts as that: as a dark grey
DARKEST = 1 / 255 / 12.92
# exp(-difference^2 / (share * variance)). The paper prints 2, its authors' program has 0.6: with 2
# two flat halves of 24 px with a hint each end 38 from their colours, 122 apart; with 0.6, 1
VARIANCE_SHARE = 0.6
SMALLEST_VARIANCE = 0.02  # of L*, the authors' 2e-6 of [0, 1]: makes a flat window's weights equal


def welsh(
    reference: np.ndarray, lightness: np.ndarray, samples: int = 200, seed: int = 0
) -> np.ndarray:
    """Give each pixel the ab of the reference's sample most like it (Welsh et al., 2002).

    Alike in lightness and in its standard deviation nearby, both counting equally. The reference's
    lightness is first brought to the target's mean and deviation (if one is flat, to its mean
    only). Lightness is L*, where the paper has l of l-alpha-beta. About so many samples are looked
    at, one in each cell of a grid; the seed is of their places within.
    """
    lightness = _checked(lightness)
    lab = color.rgb_to_lab(color.as_rgb(reference[None]))[0].double().numpy()
    rows, columns = _jittered_grid(reference.shape[:2], samples, seed)
    spread, wanted = lab[0].std(), lightness.std()
    stretch = wanted / spread if min(spread, wanted) > FLAT else 1.0
    remapped = (lab[0] - lab[0].mean()) * stretch + lightness.mean()
    tree = KDTree(_features(remapped)[rows, columns])
    _, nearest = tree.query(_features(lightness), p=1)  # both differences, half and half
    return lab[1:, rows, columns].T[nearest].astype(np.float32)


def reinhard(reference: np.ndarray, lightness: np.ndarray) -> np.ndarray:
    """Give the picture the reference's mean alpha and beta (Reinhard et al., 2001): a tint.

    The method brings each channel of l-alpha-beta to the reference's mean and deviation. In a
    grey target alpha and beta have no spread to stretch: every pixel gets the two means, one
    chromaticity for the whole picture, its chroma growing with lightness, which stays its own.
    """
    lightness = _checked(lightness)
    linear = color.to_linear(torch.from_numpy(reference / 255)).numpy().reshape(-1, 3)
    lms = np.maximum(linear @ LMS_FROM_RGB.T, DARKEST)
    _, alpha, beta = (np.log10(lms) @ OPPONENT_FROM_LOG.T).mean(0)
    tint_lms = 10 ** (np.linalg.inv(OPPONENT_FROM_LOG) @ (0, alpha, beta))
    tint = color.XYZ_FROM_RGB @ np.linalg.inv(LMS_FROM_RGB) @ tint_lms
    grey = np.stack((lightness, *np.zeros((2, *lightness.shape))), -1)
    xyz = skimage.color.lab2xyz(grey) * (tint / tint[1] / color.WHITE)  # Y, hence L*, stays
    return skimage.color.xyz2lab(xyz)[..., 1:].astype(np.float32)


def levin(lightness: np.ndarray, hints: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Spread colour hints to where lightness is alike (Levin, Lischinski, Weiss, 2004).

    Hints are ab, (H, W, 2), read where the bool mask, (H, W), is true, and stay; each other pixel
    is the weighted mean of its neighbours. Solved directly: 0.5 s and 0.2 GB for 256 x 256 pixels,
    3 to 5 s and 0.7 GB for 512 x 512; beyond, colour a smaller copy and enlarge its ab.
    """
    lightness, mask = _checked(lightness), np.asarray(mask, bool)
    if not mask.any():
        raise ValueError("levin: the mask marks no pixel; give at least one hint, or use grey")
    ab = np.array(hints, np.float32)
    if mask.all():
        return ab
    known, unknown = np.flatnonzero(mask), np.flatnonzero(~mask)
    weights = _affinities(lightness)[unknown]
    # U = W U at the unknown pixels: (I - W_unknown) U_unknown = W_known U_known
    system = sparse.eye_array(len(unknown), format="csc") - weights[:, unknown].tocsc()
    colours = weights[:, known] @ ab[mask].astype(np.float64)
    # The pattern is symmetric and the diagonal dominates: no pivots, and half the usual fill
    how = {"permc_spec": "MMD_AT_PLUS_A", "options": {"SymmetricMode": True}}
    factors = splu(system, diag_pivot_thresh=0, **how)
    ab[~mask] = factors.solve(colours)
    return ab


def guided(ab: Tensor, small: Tensor, large: Tensor, radius: int = 4, tiny: float = 1e-3) -> Tensor:
    """Draw ab anew with a lightness, L*/50 - 1: where that has an edge, so has colour.

    A guided filter (He et al., 2010): in a box of `radius` around every pixel ab/110, (B, 2, h, w),
    is a straight line of the lightness `small`, (B, 1, h, w), nearly flat where that varies less
    than `tiny`. With that line the lightness `large`, (B, 1, H, W), is coloured: ab/110 again.
    """
    line = F.interpolate(lines(ab, small, radius, tiny), large.shape[-2:], mode="bilinear")
    return (line[:, :2] * large + line[:, 2:]).clamp(-1, 1)


def lines(ab: Tensor, small: Tensor, radius: int = 4, tiny: float = 1e-3) -> Tensor:
    """Return the slopes and heights of `guided`, (B, 4, h, w): what it needs to know of the ab."""
    mean, mean_ab = box(small, radius), box(ab, radius)
    slope = (box(small * ab, radius) - mean * mean_ab) / (box(small**2, radius) - mean**2 + tiny)
    return torch.cat([box(slope, radius), box(mean_ab - slope * mean, radius)], 1)


def box(picture: Tensor, radius: int) -> Tensor:
    """Return the mean over a (2 radius + 1)-wide box, rows first; edges are repeated."""
    for pad in ((radius, radius, 0, 0), (0, 0, radius, radius)):
        side = (1, 2 * radius + 1) if pad[0] else (2 * radius + 1, 1)
        picture = F.avg_pool2d(F.pad(picture, pad, mode="replicate"), side, 1)
    return picture


def _jittered_grid(size: tuple[int, int], samples: int, seed: int) -> tuple[np.ndarray, ...]:
    """Return rows and columns of about `samples` pixels, one at random in each near-square cell."""
    height, width = size
    down = min(max(round((samples * height / width) ** 0.5), 1), height, samples)
    across = min(-(-samples // down), width)
    cells = np.indices((down, across)).reshape(2, -1)
    cell_size = np.array([[height / down], [width / across]])
    places = (cells + np.random.default_rng(seed).random(cells.shape)) * cell_size
    return tuple(np.minimum(places.astype(int), [[height - 1], [width - 1]]))


def _features(lightness: np.ndarray) -> np.ndarray:
    """Return what pixels are compared by: lightness and its deviation nearby, (H, W, 2)."""
    centred = lightness - lightness.mean()  # small squares lose fewer digits
    mean = ndimage.uniform_filter(centred, WELSH_WINDOW)
    variance = ndimage.uniform_filter(centred**2, WELSH_WINDOW) - mean**2
    return np.stack((lightness, np.sqrt(np.maximum(variance, 0))), -1)


def _affinities(lightness: np.ndarray) -> sparse.csr_array:
    """Return the weights of each pixel's neighbours, a sparse (H W, H W); every row sums to 1."""
    count, around, sides = lightness.size, LEVIN_WINDOW // 2, (LEVIN_WINDOW, LEVIN_WINDOW)
    numbers = np.pad(np.arange(count).reshape(lightness.shape), around)
    padded = np.pad(lightness, around, constant_values=np.nan)
    values, neighbours = (
        sliding_window_view(plane, sides).reshape(count, -1) for plane in (padded, numbers)
    )
    # Eq. 2: alike is judged against how much lightness varies here, the pixel itself included
    variance = np.maximum(np.nanvar(values, 1), SMALLEST_VARIANCE)
    squares = (values - lightness.reshape(-1, 1)) ** 2
    weights = np.exp(-squares / (VARIANCE_SHARE * variance[:, None]))
    there = ~np.isnan(weights)
    there[:, LEVIN_WINDOW**2 // 2] = False  # a pixel is not its own neighbour
    sums = weights.sum(1, where=there, keepdims=True)
    rows = np.repeat(np.arange(count), there.sum(1))
    return sparse.csr_array(((weights / sums)[there], (rows, neighbours[there])), (count, count))


def _checked(lightness: np.ndarray) -> np.ndarray:
    """Return lightness as float64; anything but L* of a picture raises ValueError."""
    lightness = np.asarray(lightness, np.float64)
    low, high = lightness.min(), lightness.max()
    if lightness.ndim != 2 or not (low >= -0.5 and high <= 100.5):  # nan fails both
        what = f"{lightness.shape}, from {low:g} to {high:g}"
        raise ValueError(f"lightness must be L* in 0..100, (H, W), is {what}")
    return lightness
