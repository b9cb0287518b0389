"""RGB, CIE Lab, YUV and grey on batches of tensors, differentiable, on the tensors' own device.

Pictures are (B, 3, H, W) or (3, H, W); float64 stays float64, everything else becomes float32.
Lab is that of scikit-image: sRGB, D65, 2 degrees. By hand: kornia multiplies matrices in bfloat16
under autocast (off by 3 in Lab), cuts negative Z off and has no linear stage for `fit_gamut`.
"""

import numpy as np
import torch
from skimage.color import colorconv
from torch import Tensor

XYZ_FROM_RGB, RGB_FROM_XYZ = colorconv.xyz_from_rgb.tolist(), colorconv.rgb_from_xyz.tolist()
YUV_FROM_RGB, RGB_FROM_YUV = colorconv.yuv_from_rgb.tolist(), colorconv.rgb_from_yuv.tolist()
WHITE = (0.95047, 1.0, 1.08883)

CUBE_ROOT_ENDS = (6 / 29) ** 3  # below it CIE's cube root is a line
LINE_SLOPE, LINE_START = 841 / 108, 4 / 29
AB_RANGE = 110.0  # sRGB's ab spans -107.9 to 98.3, so ab / 110 fits tanh
# Linear RGB this far outside [0, 1] is rounding dust: cutting it off moves L* by less than 0.005
DARK_DUST, BRIGHT_DUST = 5e-6, 5e-5
BISECTIONS = 12  # chroma to 1/4096 of itself, below half a level of 8 bits


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """Convert RGB in [0, 1] to Lab: L in 0..100, ab in about -108..98."""
    linear = to_linear(_float(rgb)).unbind(-3)
    xyz = [_mix(row, linear) / white for row, white in zip(XYZ_FROM_RGB, WHITE, strict=True)]
    x, y, z = map(_cube_root, xyz)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), -3)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Convert Lab to RGB, not clipped: a colour outside sRGB leaves [0, 1]."""
    linear = torch.stack(_lab_to_linear(*_float(lab).unbind(-3)), -3)
    curve = 1.055 * linear.clamp(min=0.0031308).pow(1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, curve, linear * 12.92)  # below zero on as a line


def fit_gamut(lab: Tensor) -> Tensor:
    """Reduce the chroma of colours outside sRGB until they fit; L and hue stay.

    The factor is found per pixel by bisection without gradient; the gradient flows through ab.
    """
    lightness, a, b = _float(lab).unbind(-3)
    scale = torch.ones_like(lightness)
    with torch.no_grad():
        outside = ~_is_inside(lightness, a, b)
        level, *chroma = (channel[outside] for channel in (lightness, a, b))
        largest = torch.zeros_like(level)
        for halving in range(1, BISECTIONS + 1):
            middle = largest + 0.5**halving
            fits = _is_inside(level, *(channel * middle for channel in chroma))
            largest = torch.where(fits, middle, largest)
        scale[outside] = largest
    return torch.stack((lightness, a * scale, b * scale), -3)


def _is_inside(lightness: Tensor, a: Tensor, b: Tensor) -> Tensor:
    red, green, blue = _lab_to_linear(lightness, a, b)
    darkest, brightest = red.minimum(green).minimum(blue), red.maximum(green).maximum(blue)
    return (darkest >= -DARK_DUST) & (brightest <= 1 + BRIGHT_DUST)


def rgb_to_yuv(rgb: Tensor) -> Tensor:
    """Convert RGB in [0, 1] to YUV: Y in [0, 1], U within 0.436, V within 0.615 of 0."""
    return _by_matrix(YUV_FROM_RGB, rgb)


def yuv_to_rgb(yuv: Tensor) -> Tensor:
    """Convert YUV to RGB, not clipped."""
    return _by_matrix(RGB_FROM_YUV, yuv)


def rgb_to_grey(rgb: Tensor) -> Tensor:
    """Return the Rec. 601 luma of RGB in [0, 1]: (B, 1, H, W) in [0, 1]."""
    return _mix(YUV_FROM_RGB[0], _float(rgb).unbind(-3)).unsqueeze(-3)


def normalise(lab: Tensor) -> tuple[Tensor, Tensor]:
    """Split Lab into lightness L/50 - 1 in [-1, 1], (B, 1, H, W), and ab/110, (B, 2, H, W)."""
    lightness, ab = _float(lab).split((1, 2), -3)
    return lightness / 50 - 1, ab / AB_RANGE


def to_network(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Turn uint8 RGB, (B, 3, H, W), into lightness and ab in [-1, 1], as `normalise` does."""
    return normalise(rgb_to_lab(rgb.float() / 255))


def lab_to_shown(lab: Tensor) -> Tensor:
    """Turn any Lab into RGB in [0, 1] of the same lightness; chroma may shrink."""
    return lab_to_rgb(fit_gamut(lab)).clamp(0, 1)


def from_network(lightness: Tensor, ab: Tensor) -> Tensor:
    """Turn lightness and ab in [-1, 1] into RGB in [0, 1] of that lightness; chroma may shrink."""
    return lab_to_shown(torch.cat(((_float(lightness) + 1) * 50, _float(ab) * AB_RANGE), -3))


def to_uint8(rgb: Tensor) -> Tensor:
    """Round RGB in [0, 1] to uint8; what lies outside is cut off."""
    return (rgb.detach() * 255).round_().clamp_(0, 255).to(torch.uint8)


def as_batch(pictures: np.ndarray) -> Tensor:
    """Return a copy of uint8 pictures, (B, H, W, 3), as a uint8 tensor (B, 3, H, W)."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2)


def as_rgb(pictures: np.ndarray) -> Tensor:
    """Return uint8 pictures, (B, H, W, 3), as RGB in [0, 1], (B, 3, H, W)."""
    return as_batch(pictures).float() / 255


def to_pictures(rgb: Tensor) -> np.ndarray:
    """Return RGB in [0, 1], (B, 3, H, W) or (3, H, W), as uint8 pictures for figures and scores."""
    return to_uint8(rgb).movedim(-3, -1).cpu().numpy()


def to_picture(rgb: Tensor) -> np.ndarray:
    """Return RGB in [0, 1], (1, 3, H, W) or (3, H, W), as one uint8 picture (H, W, 3)."""
    return to_pictures(rgb.reshape(rgb.shape[-3:]))


def lightness_of(picture: np.ndarray) -> Tensor:
    """Return the L* of a uint8 picture, (H, W, 3), as (1, 1, H, W) in 0..100."""
    return rgb_to_lab(as_rgb(picture[None]))[:, :1]


def grey_of(picture: np.ndarray) -> np.ndarray:
    """Return a uint8 picture, (H, W, 3), without its colour: same L*, ab = 0."""
    return with_lightness(np.zeros((*picture.shape[:2], 2)), lightness_of(picture))


def with_lightness(ab: np.ndarray | Tensor, lightness: Tensor) -> np.ndarray:
    """Join Lab's ab, (H, W, 2), and L*, (1, 1, H, W), to a uint8 picture; chroma may shrink."""
    ab = torch.from_numpy(np.asarray(ab, np.float32)).permute(2, 0, 1)[None]
    return to_picture(lab_to_shown(torch.cat([lightness, ab], 1)))


def _float(tensor: Tensor) -> Tensor:
    """Keep float64, make everything else float32: colours need more than 8 bits of mantissa."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _by_matrix(matrix: tuple, picture: Tensor) -> Tensor:
    channels = _float(picture).unbind(-3)
    return torch.stack([_mix(row, channels) for row in matrix], -3)


def _mix(weights: tuple, channels: tuple) -> Tensor:
    """Return a weighted sum of channels, element by element: autocast leaves that in float32."""
    first, second, third = channels
    return first * weights[0] + second * weights[1] + third * weights[2]


def _lab_to_linear(lightness: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    y = (lightness + 16) / 116
    roots = (y + a / 500, y, y - b / 200)
    xyz = [_cube(root) * white for root, white in zip(roots, WHITE, strict=True)]
    return [_mix(row, xyz) for row in RGB_FROM_XYZ]


def to_linear(rgb: Tensor) -> Tensor:
    """Take the sRGB curve off RGB in [0, 1]; clamps keep the unused branch's gradient finite."""
    curve = ((rgb.clamp(min=0.04045) + 0.055) / 1.055).pow(2.4)
    return torch.where(rgb > 0.04045, curve, rgb / 12.92)


def _cube_root(value: Tensor) -> Tensor:
    curve = value.clamp(min=CUBE_ROOT_ENDS).pow(1 / 3)
    return torch.where(value > CUBE_ROOT_ENDS, curve, value * LINE_SLOPE + LINE_START)


def _cube(root: Tensor) -> Tensor:
    return torch.where(root > 6 / 29, root * root * root, (root - LINE_START) / LINE_SLOPE)
