"""One protocol for every notebook: how close a coloured picture is to the true one, and how sure.

Pictures are uint8 RGB arrays (N, H, W, 3), memory maps too: they are read in chunks.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import color
from .files import FLOORS

GREY_CHROMA = 2.0  # a picture whose mean chroma is below this is a grey one: nothing to colour
HIGHEST_PSNR = 100.0  # dB, so that means and JSON stay finite
SMALLEST_SIDE = 11  # px, of the window of SSIM
CHUNK_PIXELS = 2**18  # of one chunk: four pictures of 256 px
RESAMPLES = 2000
SCORES = ("psnr", "ssim", "delta_e", "gain_over_grey")


def _by_chunk(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of pictures, or of pairs of them, see a few million numbers at a time."""

    @wraps(function)
    def chunked(*batches: np.ndarray, **options: Any) -> np.ndarray:
        truth = batches[-1]
        _check("pictures" if len(batches) == 1 else "the truth", truth)
        for batch in batches[:-1]:
            _check("the prediction", batch, truth)
        step = max(1, CHUNK_PIXELS // (truth.shape[1] * truth.shape[2]))
        chunks = [slice(start, start + step) for start in range(0, len(truth), step)]
        return np.concatenate([function(*(b[c] for b in batches), **options) for c in chunks])

    return chunked


class Evaluation(NamedTuple):
    """The scores of several rows on the same pictures."""

    rows: dict[str, dict]  # row -> psnr, psnr_pooled, ssim, cf_ratio, delta_e, ..., n, ci95
    per_picture: dict[str, dict[str, np.ndarray]]  # row -> score -> (N,), nan for those left out
    excluded_grey: int  # so many are left out


def evaluate(
    predictions: dict[str, np.ndarray],
    truth: np.ndarray,
    mean_ab: tuple[float, float],
    seed: int = 0,
) -> Evaluation:
    """Score each row of predictions, row -> uint8 (N, H, W, 3), against the truth and two floors.

    The pictures are scored as they come: give `with_true_lightness(predicted, truth)` for the
    scored output and the model's own picture for a row of native output. `mean_ab` of the
    training pictures makes the second floor; every row sees the bootstrap's same resamples.
    """
    _check("the truth", truth)
    for row, predicted in predictions.items():
        if row in FLOORS:
            raise ValueError(f"row '{row}': this name belongs to a floor; choose another one")
        _check(f"row '{row}'", predicted, truth)
    kept = mean_chroma(truth) >= GREY_CHROMA
    if not kept.any():
        raise ValueError(
            f"all {len(truth)} test pictures are grey (mean chroma below {GREY_CHROMA:g}): "
            "there is no colour to compare with; use coloured pictures"
        )
    grey, constant = (_painted(truth, ab=ab) for ab in ((0.0, 0.0), mean_ab))
    true_colourfulness, floor = colourfulness(truth)[kept], psnr(grey, truth)
    rows, per_picture = {}, {}
    painted = dict(zip(FLOORS, (grey, constant), strict=True)) | predictions
    for row, pictures in painted.items():
        mse = _mse(pictures, truth)
        scores = {"mse": mse, "psnr": _decibels(mse), "ssim": ssim(pictures, truth)}
        scores |= {"delta_e": ciede2000(pictures, truth), "colourfulness": colourfulness(pictures)}
        scores["gain_over_grey"] = scores["psnr"] - floor
        of_kept = {name: values[kept] for name, values in scores.items()}
        rows[row] = summary(of_kept, true_colourfulness, seed)
        per_picture[row] = {n: np.where(kept, values, np.nan) for n, values in scores.items()}
    return Evaluation(rows, per_picture, int((~kept).sum()))


def table_rows(
    results: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str], counted: str = ""
) -> list[dict[str, Any]]:
    """Lay out scores for a table, intervals in brackets; `counted`: what n counts, as "pairs"."""
    rows = []
    for name, scores in results.items():
        low, high = scores["ci95"]["gain_over_grey"]
        row = {"row": titles.get(name, name)} | ({counted: scores["n"]} if counted else {})
        row |= {"PSNR dB": scores["psnr"], "SSIM": scores["ssim"]}
        row["gain over grey, dB"] = f"{scores['gain_over_grey']:+.2f} [{low:+.2f}, {high:+.2f}]"
        row |= {"colourfulness / truth": scores["cf_ratio"], "CIEDE2000": scores["delta_e"]}
        rows.append(row)
    return rows


def summary(scores: dict[str, np.ndarray], true_colourfulness: np.ndarray, seed: int) -> dict:
    """Sum up one row, score -> one number a picture, as plain JSON values."""
    return {name: float(scores[name].mean()) for name in SCORES} | {
        "psnr_pooled": float(_decibels(scores["mse"].mean())),
        "cf_ratio": float(scores["colourfulness"].mean() / true_colourfulness.mean()),
        "n": len(true_colourfulness),
        "ci95": {name: list(bootstrap(scores[name], seed)) for name in SCORES},
        "each": {"delta_e": scores["delta_e"].round(3).tolist()},  # for paired differences
    }


@_by_chunk
def with_true_lightness(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the predicted ab under the truth's own L*, chroma reduced where sRGB ends; uint8."""
    return _painted(truth, ab=_lab(predicted)[:, 1:])


@_by_chunk
def psnr(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio of each picture in dB, (N,), at most 100."""
    return _decibels(_mse(predicted, truth))


@_by_chunk
def ssim(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the structural similarity of each picture, (N,): RGB, Gaussian window, sigma 1.5."""
    from skimage.metrics import structural_similarity  # not before it is needed: 0.3 s

    height, width = truth.shape[1:3]
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(f"SSIM needs {SMALLEST_SIDE} px a side, a picture is {height} x {width}")
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}  # Wang's own
    how |= {"data_range": 255, "channel_axis": -1}
    pairs = zip(predicted, truth, strict=True)
    return np.array([structural_similarity(one, other, **how) for one, other in pairs])


@_by_chunk
def ciede2000(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the mean CIEDE2000 colour difference of each picture, (N,)."""
    return delta_e_2000(_lab(predicted), _lab(truth)).mean((1, 2), dtype=torch.float64).numpy()


@_by_chunk
def colourfulness(rgb: np.ndarray) -> np.ndarray:
    """Return each picture's colourfulness after Hasler and Suesstrunk, signed opponents, (N,)."""
    red, green, blue = np.moveaxis(rgb.reshape(len(rgb), -1, 3).astype(np.float64), -1, 0)
    opponents = np.stack((red - green, (red + green) / 2 - blue))
    return np.hypot(*opponents.std(2)) + 0.3 * np.hypot(*opponents.mean(2))


@_by_chunk
def mean_chroma(rgb: np.ndarray) -> np.ndarray:
    """Return the mean Lab chroma of each picture, (N,); below 2 a picture counts as grey."""
    return _lab(rgb)[:, 1:].norm(dim=1).mean((1, 2)).double().numpy()


def mean_ab(pictures: np.ndarray) -> tuple[float, float]:
    """Return the mean a and the mean b over all pixels of the pictures."""
    means = _by_chunk(lambda chunk: _lab(chunk)[:, 1:].mean((2, 3), dtype=torch.float64))(pictures)
    return tuple(means.mean(0).tolist())


def bootstrap(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean over pictures, (low, high).

    One seed and length give the same resamples: give differences for a paired interval.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"bootstrap needs one number per picture, got shape {values.shape}")
    chosen = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[chosen].mean(1), (2.5, 97.5))
    return float(low), float(high)


def delta_e_2000(lab: Tensor, other: Tensor) -> Tensor:
    """Return the CIEDE2000 difference of two Lab pictures (B, 3, H, W), per pixel (B, H, W)."""
    from skimage.color import deltaE_ciede2000

    one, two = (each.detach().cpu().numpy() for each in (lab, other))
    return torch.from_numpy(deltaE_ciede2000(one, two, channel_axis=-3))


@_by_chunk
def _mse(guess: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.square(np.subtract(guess, true, dtype=np.float32)).mean((1, 2, 3), dtype=np.float64)


def _decibels(mse: np.ndarray) -> np.ndarray:
    return 10 * np.log10(255**2 / np.maximum(mse, 255**2 / 10 ** (HIGHEST_PSNR / 10)))


@_by_chunk
def _painted(pictures: np.ndarray, ab: Tensor | tuple[float, float]) -> np.ndarray:
    """Give pictures other ab, (N, 2, H, W) or one pair, under their own L*."""
    lab = _lab(pictures)
    lab[:, 1:] = ab if isinstance(ab, Tensor) else torch.tensor(ab)[:, None, None]
    return color.to_pictures(color.lab_to_shown(lab))


def _lab(pictures: np.ndarray) -> Tensor:
    return color.rgb_to_lab(color.as_rgb(pictures).contiguous())


def _check(what: str, pictures: np.ndarray, truth: np.ndarray | None = None) -> None:
    shape, kind = np.shape(pictures), getattr(pictures, "dtype", type(pictures))
    if kind != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise ValueError(f"{what}: must be uint8 (N, H, W, 3), is {kind} {shape}")
    if truth is not None and shape != truth.shape:
        raise ValueError(f"{what} has shape {shape}, the truth {truth.shape}")
