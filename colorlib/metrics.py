"""One protocol for every notebook: how close a coloured picture is to the true one, and how sure.

Pictures are uint8 RGB arrays (N, H, W, 3), memory maps too; they are read in chunks, so thousands
of them fit. Every score is one number per picture, then the mean over pictures. PSNR of identical
pictures is infinite; it is cut at 100 dB, so that means and JSON stay finite.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from . import color
from .files import FLOORS

GREY_CHROMA = 2.0  # a picture whose mean chroma is below this is a grey one: nothing to colour
HIGHEST_PSNR = 100.0
SSIM_SIGMA = 1.5
SSIM_BORDER = 5  # half of the 11 x 11 window: SSIM is averaged where the window fits
SMALLEST_SIDE_SSIM, SMALLEST_SIDE_LPIPS = 11, 32
CHUNK_PIXELS = 2**18  # of one chunk: four pictures of 256 px
RESAMPLES = 2000
SCORES = ("psnr", "ssim", "delta_e", "gain_over_grey")


class MetricsError(ValueError):
    """Pictures or weights that cannot be scored; one line."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of several rows on the same pictures.

    Attributes:
        rows: row -> psnr, psnr_pooled, ssim, cf_ratio, delta_e, gain_over_grey, n, ci95.
        per_picture: row -> score -> (N,), nan for the true-grey pictures left out; mse too.
        excluded_grey: how many pictures were left out.
    """

    rows: dict[str, dict]
    per_picture: dict[str, dict[str, np.ndarray]]
    excluded_grey: int


def evaluate(
    predictions: dict[str, np.ndarray],
    truth: np.ndarray,
    mean_ab: tuple[float, float],
    seed: int = 0,
) -> Evaluation:
    """Score each row of predictions against the truth, beside the two floors.

    The pictures are scored as they come: give `with_true_lightness(predicted, truth)` for the
    scored output and the model's own picture for a row of native output.

    Args:
        predictions: row -> uint8 (N, H, W, 3).
        truth: uint8 (N, H, W, 3).
        mean_ab: mean a and b of the training pictures, for the row `mean_ab`.
        seed: of the bootstrap; every row sees the same resamples.
    """
    _check_pictures("truth", truth)
    for row, predicted in predictions.items():
        if row in FLOORS:
            raise MetricsError(f"row '{row}': this name belongs to a floor; choose another one")
        _check_pair(f"row '{row}'", predicted, "the truth", truth)
    kept = mean_chroma(truth) >= GREY_CHROMA
    if not kept.any():
        raise MetricsError(
            f"all {len(truth)} test pictures are grey (mean chroma below {GREY_CHROMA:g}): "
            "there is no colour to compare with; use coloured pictures"
        )
    scores = _score_rows(predictions, truth, mean_ab)
    true_colourfulness = scores.pop("truth")["colourfulness"][kept]
    for row in scores.values():
        row["gain_over_grey"] = row["psnr"] - scores["grey_floor"]["psnr"]
    rows = {name: _summary(row, kept, true_colourfulness, seed) for name, row in scores.items()}
    for row in scores.values():
        for values in row.values():
            values[~kept] = np.nan
    return Evaluation(rows, scores, int((~kept).sum()))


def table_rows(
    results: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str], counted: str = ""
) -> list[dict[str, Any]]:
    """Lay out rows of scores for a table; intervals in brackets.

    counted: what `n` counts, as "pairs", where the table should say it.
    """
    rows = []
    for name, scores in results.items():
        low, high = scores["ci95"]["gain_over_grey"]
        row = {"row": titles.get(name, name)} | ({counted: scores["n"]} if counted else {})
        row |= {"PSNR dB": scores["psnr"], "SSIM": scores["ssim"]}
        row["gain over grey, dB"] = f"{scores['gain_over_grey']:+.2f} [{low:+.2f}, {high:+.2f}]"
        row |= {"colourfulness / truth": scores["cf_ratio"], "CIEDE2000": scores["delta_e"]}
        rows.append(row)
    return rows


def _score_rows(
    predictions: dict[str, np.ndarray],
    truth: np.ndarray,
    constant_ab: tuple[float, float],
) -> dict[str, dict[str, np.ndarray]]:
    """Return row -> score -> (N,), chunk by chunk; the row "truth" has colourfulness only."""
    parts: dict[str, list[dict[str, np.ndarray]]] = {}
    for chunk in _chunks(truth):
        true = _to_tensor(truth[chunk])
        true_lab = color.rgb_to_lab(true / 255)
        guesses = {
            "grey_floor": _constant_colour(true_lab, (0.0, 0.0)),
            "mean_ab": _constant_colour(true_lab, constant_ab),
            **{row: _to_tensor(p[chunk]) for row, p in predictions.items()},
        }
        parts.setdefault("truth", []).append({"colourfulness": _colourfulness(true)})
        for row, guess in guesses.items():
            parts.setdefault(row, []).append(_score(guess, true, true_lab))
    return {
        row: {score: np.concatenate([part[score] for part in found]) for score in found[0]}
        for row, found in parts.items()
    }


def _score(guess: Tensor, true: Tensor, true_lab: Tensor) -> dict[str, np.ndarray]:
    """Score one chunk, RGB in 0..255."""
    mse = _mse(guess, true)
    difference = delta_e_2000(color.rgb_to_lab(guess / 255), true_lab)
    return {
        "mse": mse,
        "psnr": _decibels(mse),
        "ssim": _ssim(guess, true),
        "delta_e": _host(difference.mean((1, 2))),
        "colourfulness": _colourfulness(guess),
    }


def _summary(
    scores: dict[str, np.ndarray], kept: np.ndarray, true_colourfulness: np.ndarray, seed: int
) -> dict:
    """Sum up one row over the coloured pictures, as plain JSON values."""
    kept_scores = {name: values[kept] for name, values in scores.items()}
    means = {name: float(kept_scores[name].mean()) for name in SCORES}
    return {
        "psnr": means["psnr"],
        "psnr_pooled": float(_decibels(kept_scores["mse"].mean())),
        "ssim": means["ssim"],
        "cf_ratio": float(kept_scores["colourfulness"].mean() / true_colourfulness.mean()),
        "delta_e": means["delta_e"],
        "gain_over_grey": means["gain_over_grey"],
        "n": int(kept.sum()),
        "ci95": {name: list(bootstrap(kept_scores[name], seed)) for name in SCORES},
    }


def with_true_lightness(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the predicted ab under the truth's own L*, chroma reduced where sRGB ends; uint8."""
    _check_pair("the prediction", predicted, "the truth", truth)
    scored = np.empty(truth.shape, np.uint8)
    for chunk in _chunks(truth):
        lab, true_lab = (_to_lab(pictures[chunk]) for pictures in (predicted, truth))
        scored[chunk] = _to_uint8(torch.cat((true_lab[:, :1], lab[:, 1:]), 1))
    return scored


def _constant_colour(lab: Tensor, ab: tuple[float, float]) -> Tensor:
    """Paint every pixel with one ab under its own L*; RGB in 0..255, whole numbers."""
    painted = lab.clone()
    painted[:, 1], painted[:, 2] = ab
    return _from_lab(painted).float()


def psnr(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio of each picture in dB, (N,), at most 100."""
    _check_pair("the prediction", predicted, "the truth", truth)
    return _decibels(_per_picture(_mse, predicted, truth))


def ssim(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the structural similarity of each picture, (N,): RGB, Gaussian window, sigma 1.5."""
    _check_pair("the prediction", predicted, "the truth", truth)
    return _per_picture(_ssim, predicted, truth)


def ciede2000(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the mean CIEDE2000 colour difference of each picture, (N,)."""
    _check_pair("the prediction", predicted, "the truth", truth)
    return _per_picture(_mean_difference, predicted, truth)


def colourfulness(rgb: np.ndarray) -> np.ndarray:
    """Return each picture's colourfulness after Hasler and Suesstrunk, signed opponents, (N,)."""
    _check_pictures("pictures", rgb)
    return _per_picture(_colourfulness, rgb)


def mean_chroma(rgb: np.ndarray) -> np.ndarray:
    """Return the mean Lab chroma of each picture, (N,); below 2 a picture counts as grey."""
    _check_pictures("pictures", rgb)
    return _per_picture(
        lambda t: _host(color.rgb_to_lab(t / 255)[:, 1:].norm(dim=1).mean((1, 2))), rgb
    )


def mean_ab(pictures: np.ndarray) -> tuple[float, float]:
    """Return the mean a and the mean b over all pixels of the pictures."""
    _check_pictures("pictures", pictures)
    means = [
        _to_lab(pictures[chunk])[:, 1:].mean((2, 3), dtype=torch.float64)
        for chunk in _chunks(pictures)
    ]
    a, b = torch.cat(means).mean(0).tolist()
    return a, b


def bootstrap(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean over pictures, (low, high).

    One seed and length give the same resamples: give differences for a paired interval.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise MetricsError(f"bootstrap needs one number per picture, got shape {values.shape}")
    generator = np.random.default_rng(seed)
    means = [
        values[generator.integers(len(values), size=len(values))].mean() for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def delta_e_2000(lab: Tensor, other: Tensor) -> Tensor:
    """Return the CIEDE2000 difference of two Lab pictures (B, 3, H, W), per pixel (B, H, W).

    Formulas and names of Sharma, Wu, Dalal (2005), with angles in radians.
    """
    (l1, a1, b1), (l2, a2, b2) = lab.unbind(-3), other.unbind(-3)
    # Eq. 2-7: a is stretched near grey, then chroma and hue
    g = 1.5 - 0.5 * _seventh_power_ratio((torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2)
    a1, a2 = a1 * g, a2 * g
    c1, c2 = torch.hypot(a1, b1), torch.hypot(a2, b2)
    h1, h2 = (torch.atan2(b, a) % (2 * math.pi) for a, b in ((a1, b1), (a2, b2)))
    # Eq. 8-14: differences and means; hues go the short way round, a grey one has no hue
    coloured = c1 * c2 > 0
    turn = h2 - h1 - 2 * math.pi * torch.round((h2 - h1) / (2 * math.pi))
    hue_step = torch.where(coloured, turn, 0.0)
    delta_l, delta_c = l2 - l1, c2 - c1
    delta_h = 2 * (c1 * c2).sqrt() * torch.sin(hue_step / 2)
    mean_l, mean_c = (l1 + l2) / 2, (c1 + c2) / 2
    mean_h = torch.where(coloured, h1 + turn / 2, h1 + h2)
    # Eq. 15-21: weights
    t = (
        1
        - 0.17 * torch.cos(mean_h - math.radians(30))
        + 0.24 * torch.cos(2 * mean_h)
        + 0.32 * torch.cos(3 * mean_h + math.radians(6))
        - 0.20 * torch.cos(4 * mean_h - math.radians(63))
    )
    from_blue = (torch.rad2deg(mean_h) % 360 - 275) / 25
    rotation = math.radians(60) * torch.exp(-(from_blue**2))
    middle = (mean_l - 50) ** 2
    step_l = delta_l / (1 + 0.015 * middle / (20 + middle).sqrt())
    step_c = delta_c / (1 + 0.045 * mean_c)
    step_h = delta_h / (1 + 0.015 * mean_c * t)
    cross = -torch.sin(rotation) * 2 * _seventh_power_ratio(mean_c) * step_c * step_h
    # Eq. 22; the sum is never negative but for rounding
    return (step_l**2 + step_c**2 + step_h**2 + cross).clamp(min=0).sqrt()


def _seventh_power_ratio(chroma: Tensor) -> Tensor:
    power = (chroma / 25) ** 7
    return (power / (power + 1)).sqrt()


class Lpips:
    """LPIPS v0.1 (AlexNet or SqueezeNet) from a file of `backbone` and `heads`; 0 is identical."""

    # after which layers of torchvision's `features` the activations are compared
    TAPS = {"alexnet": (1, 4, 7, 9, 11), "squeezenet1_1": (1, 4, 7, 9, 10, 11, 12)}  # noqa: RUF012
    SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)

    def __init__(self, weights_file: str | Path, device: str | torch.device = "cpu") -> None:
        """Read the weights; a file that is no LPIPS raises MetricsError."""
        self.device = torch.device(device)
        backbone, heads = _read_lpips(Path(weights_file))
        name = "squeezenet1_1" if "features.3.squeeze.weight" in backbone else "alexnet"
        self.taps = self.TAPS[name]
        try:
            features = _build_features(name, backbone)[: self.taps[-1] + 1]
            self.features = features.to(self.device)
            self.heads = [
                heads[f"lin{i}.model.1.weight"].float().to(self.device).flatten()
                for i in range(len(self.taps))
            ]
        except (RuntimeError, KeyError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise MetricsError(
                f"{weights_file}: not the weights of LPIPS on {name} ({reason}); get the file again"
            ) from error

    @torch.no_grad()
    def __call__(self, predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return the perceptual distance of each pair of pictures, uint8 (N, H, W, 3), as (N,)."""
        _check_pair("the prediction", predicted, "the truth", truth)
        _check_side("LPIPS", truth.shape[1:3], SMALLEST_SIDE_LPIPS)
        return _per_picture(self._distance, predicted, truth, device=self.device)

    def _distance(self, guess: Tensor, true: Tensor) -> np.ndarray:
        pairs = zip(self.heads, self._activations(guess), self._activations(true), strict=True)
        total = torch.zeros(len(true), device=self.device)
        for head, one, other in pairs:
            total += ((one - other) ** 2 * head[:, None, None]).sum(1).mean((1, 2))
        return _host(total)

    def _activations(self, pictures: Tensor) -> Iterator[Tensor]:
        """Yield the tapped activations, each pixel's vector of unit length."""
        shift, scale = (pictures.new_tensor(v)[:, None, None] for v in (self.SHIFT, self.SCALE))
        activation = (pictures / 127.5 - 1 - shift) / scale
        for index, layer in enumerate(self.features):
            activation = layer(activation)
            if index in self.taps:
                yield activation / (activation.norm(dim=1, keepdim=True) + 1e-10)


def _read_lpips(file: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Read a weights file without running code from it."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        return dict(content["backbone"]), dict(content["heads"])
    except FileNotFoundError:
        raise MetricsError(f"{file}: there is no such file of LPIPS weights") from None
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MetricsError(f"{file}: unreadable LPIPS weights ({reason}); get it again") from error
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise MetricsError(
            f"{file}: not LPIPS weights: needs the two tables `backbone` and `heads`"
        ) from error


def _build_features(name: str, weights: dict[str, Tensor]) -> torch.nn.Sequential:
    """Build the convolutional part of a torchvision network around the given weights."""
    import torchvision.models

    with torch.device("meta"):  # no memory for the classifier, which is not used
        features = getattr(torchvision.models, name)(weights=None).features
    state = {key.removeprefix("features."): value.float() for key, value in weights.items()}
    features.load_state_dict(state, assign=True)
    for layer in features:
        layer.inplace = False  # a tapped activation must not be changed by the next layer
    return features.eval().requires_grad_(False)


# One chunk of pictures: (B, 3, H, W) float RGB in 0..255 -> one number per picture


def _mse(guess: Tensor, true: Tensor) -> np.ndarray:
    return _host((guess - true).square().mean((1, 2, 3), dtype=torch.float64))


def _mean_difference(guess: Tensor, true: Tensor) -> np.ndarray:
    one, other = (color.rgb_to_lab(t / 255) for t in (guess, true))
    return _host(delta_e_2000(one, other).mean((1, 2)))


def _colourfulness(rgb: Tensor) -> np.ndarray:
    red, green, blue = rgb.double().flatten(2).unbind(1)
    opponents = torch.stack((red - green, (red + green) / 2 - blue))
    spread = opponents.std(dim=2, correction=0).norm(dim=0)
    return _host(spread + 0.3 * opponents.mean(2).norm(dim=0))


def _ssim(guess: Tensor, true: Tensor) -> np.ndarray:
    """Wang's SSIM where the whole window lies inside the picture, as scikit-image averages it.

    Two passes with a line of the window are several times faster than one with its square.
    """
    _check_side("SSIM", true.shape[2:], SMALLEST_SIDE_SSIM)
    place = torch.arange(-SSIM_BORDER, SSIM_BORDER + 1, device=true.device)
    line = torch.exp(-(place**2) / (2 * SSIM_SIGMA**2))
    line = line / line.sum()

    def local_mean(picture: Tensor) -> Tensor:
        flat = picture.flatten(0, 1)[:, None]
        return F.conv2d(F.conv2d(flat, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))

    guess, true = guess / 255, true / 255
    mean, mean_true = local_mean(guess), local_mean(true)
    squares = local_mean(guess * guess) + local_mean(true * true) - mean**2 - mean_true**2
    product = local_mean(guess * true) - mean * mean_true
    alike = (2 * mean * mean_true + 0.01**2) / (mean**2 + mean_true**2 + 0.01**2)
    similar = alike * (2 * product + 0.03**2) / (squares + 0.03**2)
    return _host(similar.mean((1, 2, 3)).view(len(true), -1).mean(1))


def _decibels(mse: np.ndarray) -> np.ndarray:
    lowest = 255**2 / 10 ** (HIGHEST_PSNR / 10)
    return 10 * np.log10(255**2 / np.maximum(mse, lowest))


# Arrays and tensors


def _per_picture(function, *batches: np.ndarray, device: str | torch.device = "cpu") -> np.ndarray:
    """Apply a function of tensors to the pictures chunk by chunk."""
    return np.concatenate(
        [
            function(*(_to_tensor(b[chunk], device) for b in batches))
            for chunk in _chunks(batches[0])
        ]
    )


def _chunks(pictures: np.ndarray) -> Iterator[slice]:
    """Yield slices of about CHUNK_PIXELS pixels, at least one picture each."""
    height, width = pictures.shape[1:3]
    step = max(1, CHUNK_PIXELS // (height * width))
    return (slice(start, start + step) for start in range(0, len(pictures), step))


def _to_tensor(pictures: np.ndarray, device: str | torch.device = "cpu") -> Tensor:
    """Turn uint8 (B, H, W, 3) into float (B, 3, H, W), still 0..255."""
    return torch.tensor(pictures, device=device).permute(0, 3, 1, 2).float().contiguous()


def _to_lab(pictures: np.ndarray) -> Tensor:
    return color.rgb_to_lab(_to_tensor(pictures) / 255)


def _from_lab(lab: Tensor) -> Tensor:
    return color.to_uint8(color.lab_to_rgb(color.fit_gamut(lab)))


def _to_uint8(lab: Tensor) -> np.ndarray:
    return _from_lab(lab).permute(0, 2, 3, 1).numpy()


def _host(values: Tensor) -> np.ndarray:
    return values.cpu().double().numpy()  # in this order: Apple's GPU has no float64


def _check_pictures(what: str, pictures: np.ndarray) -> None:
    shape, kind = getattr(pictures, "shape", None), getattr(pictures, "dtype", type(pictures))
    if kind != np.uint8 or len(shape) != 4 or shape[3] != 3:
        raise MetricsError(f"{what}: must be uint8 (N, H, W, 3), is {kind} {shape}")
    if 0 in shape:
        raise MetricsError(f"{what}: there is no picture to score, shape {shape}")


def _check_pair(what: str, predicted: np.ndarray, other: str, truth: np.ndarray) -> None:
    _check_pictures(other, truth)
    _check_pictures(what, predicted)
    if predicted.shape != truth.shape:
        raise MetricsError(f"{what} has shape {predicted.shape}, {other} {truth.shape}")


def _check_side(score: str, size: tuple[int, ...], least: int) -> None:
    if min(size) < least:
        raise MetricsError(f"pictures of {size[0]} x {size[1]} px: {score} needs {least} px a side")
