"""The only place that decodes or writes an image file: a bad one becomes a clear PictureError."""

from __future__ import annotations

import errno
import glob
import io
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from colorlib import files

Fit = Literal["crop", "squash", "keep"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm")
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
MAX_PIXELS = 120_000_000
# A JPEG is decoded at 1/2, 1/4 or 1/8 only where this many times the wanted size remains:
# Pillow calls the result of a Lanczos filter then indistinguishable from one on all pixels.
DRAFT_MARGIN = 3

# One limit, ours: above it `_open` refuses the file, so Pillow's earlier warning says nothing new.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class PictureError(Exception):
    """A picture that cannot be read or written: which file, what is wrong, how to mend it."""

    def __init__(self, path: str | Path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.reason = reason


@dataclass
class Picture:
    """An upright picture: rgb uint8 (H, W, 3), alpha uint8 (H, W) or None, RGB profile or None."""

    rgb: np.ndarray
    alpha: np.ndarray | None
    icc: bytes | None
    path: Path


def read(path: str | Path) -> Picture:
    """Read a picture file as upright 8-bit RGB, whatever its kind; the first frame if it moves."""
    image = _upright(_decode(read_bytes(path), path))
    profile = image.info.get("icc_profile")
    if profile is not None and profile[16:20] != b"RGB ":
        profile = None  # a CMYK or grey profile is wrong for the RGB numbers we return
    rgb, alpha = _arrays(image, path)
    return Picture(rgb, alpha, profile, Path(path))


def read_rgb(path: str | Path) -> np.ndarray:
    """Read a picture file as uint8 (H, W, 3), alpha and profile left aside."""
    return read(path).rgb


def read_resized(
    path: str | Path, size: int | tuple[int, int], fit: Fit = "crop"
) -> tuple[np.ndarray, tuple[int, int]]:
    """Read a picture at a size, faster than read and resize; return it and its own (H, W)."""
    height, width = _target(size)
    image = _open(read_bytes(path), path)
    shape = (image.height, image.width)
    for scale in (8, 4, 2):
        if min(shape) >= scale * DRAFT_MARGIN * max(height, width):
            image.draft(image.mode, (shape[1] // scale, shape[0] // scale))
            break
    _load(image, path)
    upright = _upright(image)
    turned = (upright.width > upright.height) != (image.width > image.height)
    rgb, _ = _arrays(upright, path)
    return resize(rgb, size, fit), shape[::-1] if turned else shape


def read_bytes(path: str | Path) -> bytes:
    """Read a file's bytes; a missing, forbidden or empty file or a folder is a PictureError."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise PictureError(path, _read_trouble(error)) from None
    if not data:
        raise PictureError(path, "is empty (0 bytes); fetch or export it again")
    return data


def write(
    path: str | Path,
    rgb: np.ndarray,
    alpha: np.ndarray | None = None,
    icc: bytes | None = None,
    quality: int = 92,
) -> None:
    """Write uint8 rgb (H, W, 3), whole or not at all, in the format of the suffix.

    alpha (H, W) is kept by PNG, WebP and TIFF and dropped by JPEG; quality (1-100) is for JPEG
    and WebP.
    """
    kind = FORMATS.get(Path(path).suffix.lower())
    if kind is None:
        known = " ".join(FORMATS)
        raise PictureError(path, f"has no suffix that can be written; use one of {known}")
    rgb = _check_rgb(rgb)
    if alpha is not None and kind != "JPEG":
        if alpha.shape != rgb.shape[:2] or alpha.dtype != np.uint8:
            raise ValueError(
                f"alpha must be uint8 {rgb.shape[:2]}, not {alpha.dtype} {alpha.shape}"
            )
        rgb = np.dstack([rgb, alpha])
    # Full chroma resolution: colour is what these pictures are about.
    options = {
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"quality": quality},
        "TIFF": {"compression": "tiff_deflate"},
        "PNG": {},
    }[kind]
    if icc is not None:
        options["icc_profile"] = icc
    stream = io.BytesIO()
    try:
        Image.fromarray(rgb).save(stream, kind, **options)
    except (OSError, ValueError) as error:  # Pillow's words for a picture too large for a format
        raise PictureError(path, f"cannot be written as {kind} ({error}); use .png") from None
    try:
        files.write_atomic(path, stream.getvalue())
    except OSError as error:
        raise PictureError(path, _write_trouble(error)) from None


def to_jpeg(data: bytes, width: int = 480, quality: int = 55, full_colour: bool = False) -> bytes:
    """Return an encoded picture as a JPEG of at most that width: small, for a first look.

    full_colour: colour at full resolution, for figures whose subject is colour.
    """
    image = _upright(_decode(data, "picture")).convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.LANCZOS)
    stream = io.BytesIO()
    subsampling = 0 if full_colour else 2
    image.save(stream, "JPEG", quality=quality, optimize=True, subsampling=subsampling)
    return stream.getvalue()


def resize(rgb: np.ndarray, size: int | tuple[int, int], fit: Fit = "crop") -> np.ndarray:
    """Resize uint8 (H, W, 3) with a Lanczos filter to size: a side, or (height, width).

    crop: scaled to cover the size, the middle kept; squash: both sides to the size, the shape
    given up; keep: scaled to cover the size, nothing cut off.
    """
    height, width = _target(size)
    image = Image.fromarray(_check_rgb(rgb))
    scale = max(height / image.height, width / image.width)
    box = (0.0, 0.0, float(image.width), float(image.height))
    if fit == "crop":
        # The crop is the filter's source box, so that nothing is rounded on the way.
        left = (image.width - width / scale) / 2
        top = (image.height - height / scale) / 2
        box = (
            max(left, 0.0),
            max(top, 0.0),
            image.width - max(left, 0),
            image.height - max(top, 0),
        )
    elif fit == "keep":
        height = max(height, round(image.height * scale))
        width = max(width, round(image.width * scale))
        if height * width > MAX_PIXELS:
            raise ValueError(f"a picture of {width} x {height} is too large; choose a smaller size")
    elif fit != "squash":
        raise ValueError(f"fit must be crop, squash or keep, not {fit!r}")
    return np.array(image.resize((width, height), Image.Resampling.LANCZOS, box=box))


def find(where: str | Path) -> list[Path]:
    """Return the picture files of a file, a folder (with all below it) or a glob, sorted."""
    place = Path(where).expanduser()
    if place.is_dir():
        found = sorted(path for path in place.rglob("*") if _looks_like_picture(path, place))
        if not found:
            raise PictureError(place, f"holds no picture ({' '.join(SUFFIXES)})")
        return found
    if place.exists() or place.is_symlink():
        return [place]
    if glob.has_magic(str(place)):
        paths = (Path(name) for name in glob.glob(str(place), recursive=True))
        found = sorted(path for path in paths if not path.is_dir())
        if found:
            return found
        raise PictureError(place, "no file has a name like that; check the pattern")
    raise PictureError(place, "no such file or folder; check the name")


def _looks_like_picture(path: Path, below: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(below).parts)
    return path.suffix.lower() in SUFFIXES and not hidden and not path.is_dir()


def _open(data: bytes, path: str | Path) -> Image.Image:
    """Read the header, refuse what would not fit in memory."""
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise PictureError(path, "is not a picture that can be read; save it as PNG") from None
    except Image.DecompressionBombError:
        raise PictureError(path, _too_large("far more than")) from None
    except Exception as error:  # a damaged header: the plugins raise almost anything
        raise PictureError(path, _damaged(error)) from None
    if image.width * image.height > MAX_PIXELS:
        megapixels = math.ceil(image.width * image.height / 1e6)
        raise PictureError(path, _too_large(f"{megapixels} megapixels, more than"))
    return image


def _load(image: Image.Image, path: str | Path) -> None:
    try:
        image.load()
    except Exception as error:  # damaged bytes: the decoders raise almost anything
        raise PictureError(path, _damaged(error)) from None


def _decode(data: bytes, path: str | Path) -> Image.Image:
    image = _open(data, path)
    _load(image, path)
    return image


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # unreadable EXIF says nothing about the pixels, which are fine
        return image


def _arrays(image: Image.Image, path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Convert any mode to uint8 RGB and, where the picture has transparency, alpha."""
    if image.mode.startswith("I"):
        # 16 bits of grey; Pillow's own conversion clips them at 255
        deep = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        grey = ((deep * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2), None
    if image.mode in ("F", "LAB"):
        reason = f"has pixels of the kind {image.mode}, which is not read; save it as 8-bit RGB"
        raise PictureError(path, reason)
    try:
        if image.has_transparency_data:
            pixels = np.array(image.convert("RGBA"))
            return np.ascontiguousarray(pixels[..., :3]), pixels[..., 3].copy()
        return np.array(image.convert("RGB")), None
    except Exception as error:
        raise PictureError(path, _damaged(error)) from None


def _target(size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    return height, width


def _check_rgb(rgb: np.ndarray) -> np.ndarray:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"rgb must be uint8 (H, W, 3), not {rgb.dtype} {rgb.shape}")
    return np.ascontiguousarray(rgb)


def _too_large(how_much: str) -> str:
    return f"has {how_much} {MAX_PIXELS // 10**6} megapixels; make it smaller first"


def _damaged(error: Exception) -> str:
    detail = " ".join(str(error).split())[:100] or type(error).__name__
    return f"is damaged or cut short ({detail}); fetch or export it again"


def _read_trouble(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file; check the name"
    if isinstance(error, IsADirectoryError):
        return "is a folder where a picture file is wanted; name a file in it"
    if isinstance(error, PermissionError):
        return "may not be read; change its permissions"
    return f"cannot be read ({error.strerror or error}); check the disk"


def _write_trouble(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "may not be written; choose another folder or change its permissions"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "cannot be written, the disk is full; free some space or choose another folder"
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return "cannot be written, a file stands where a folder should be or the reverse"
    return f"cannot be written ({error.strerror or error})"
