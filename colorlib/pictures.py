"""The only place that decodes or writes an image file: a bad one becomes a clear PictureError."""

from __future__ import annotations

import errno
import glob
import io
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from colorlib import files

Fit = Literal["crop", "squash", "keep"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm")
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}  # what is written
FORMATS |= {".tif": "TIFF", ".tiff": "TIFF"}
MAX_PIXELS = 120_000_000
READABLE = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")  # no EPS: that starts Ghostscript
MAX_BYTES = 1_000_000_000
MAX_PROFILE = 1_000_000  # bytes; Pillow refuses a PNG with more
# A JPEG is decoded at 1/2, 1/4 or 1/8 only where this many times the wanted size remains:
# Pillow calls the result of a Lanczos filter then indistinguishable from one on all pixels.
DRAFT_MARGIN = 3

READ_TROUBLE = {
    errno.ENOENT: "no such file; check the name",
    errno.EISDIR: "is a folder where a picture file is wanted; name a file in it",
    errno.EACCES: "may not be read; change its permissions",
}
WRITE_TROUBLE = {
    (errno.EACCES, errno.EPERM, errno.EROFS): "may not be written; choose another folder",
    (errno.ENOSPC, errno.EDQUOT): "cannot be written, the disk is full; free some space",
    (errno.ENOTDIR, errno.EISDIR, errno.EEXIST): "meets a file or folder; choose another",
}
# One limit, ours: above it files are refused, so Pillow's earlier warning says nothing new.
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


def read(path: str | Path) -> Picture:
    """Read a picture file as upright 8-bit RGB, whatever its kind; the first frame if it moves."""
    image, _ = _open(read_bytes(path), path)
    profile = image.info.get("icc_profile")
    if profile is not None and (profile[16:20] != b"RGB " or len(profile) > MAX_PROFILE):
        profile = None  # a CMYK or grey profile is wrong for the RGB numbers we return
    rgb, alpha = _arrays(image, path)
    return Picture(rgb, alpha, profile)


def read_rgb(path: str | Path) -> np.ndarray:
    """Read a picture file as uint8 (H, W, 3), alpha and profile left aside."""
    return read(path).rgb


def read_resized(
    path: str | Path, size: int | tuple[int, int], fit: Fit = "crop"
) -> tuple[np.ndarray, tuple[int, int]]:
    """Read a picture at a size, faster than read and resize; return it and its own (H, W)."""
    image, shape = _open(read_bytes(path), path, enough=DRAFT_MARGIN * max(_target(size)))
    return resize(_arrays(image, path)[0], size, fit), shape


def read_bytes(path: str | Path) -> bytes:
    """Read a file's bytes; a missing, forbidden or empty file or a folder is a PictureError."""
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
            raise PictureError(path, "is a pipe or a device; save the picture as a file first")
        if about.st_size > MAX_BYTES:
            raise PictureError(path, "has more than a gigabyte; make it smaller first")
        data = Path(path).read_bytes()
    except OSError as error:
        other = f"cannot be read ({error.strerror or error}); check the disk"
        raise PictureError(path, READ_TROUBLE.get(error.errno, other)) from None
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
        raise PictureError(path, f"has another suffix than can be written: {' '.join(FORMATS)}")
    rgb = _check_rgb(rgb)
    if alpha is not None and kind != "JPEG":
        if alpha.shape != rgb.shape[:2] or alpha.dtype != np.uint8:
            raise ValueError(f"alpha must be uint8 {rgb.shape[:2]}, not {alpha.shape}")
        rgb = np.dstack([rgb, alpha])
    # full chroma resolution: colour is what these pictures are about
    options = {"JPEG": {"subsampling": 0}, "TIFF": {"compression": "tiff_deflate"}}.get(kind, {})
    if kind in ("JPEG", "WEBP"):
        options["quality"] = quality
    stream = io.BytesIO()
    try:
        Image.fromarray(rgb).save(stream, kind, icc_profile=icc, **options)
    except (OSError, ValueError) as error:  # Pillow's words for a picture too large for a format
        raise PictureError(path, f"cannot be written as {kind} ({error}); use .png") from None
    try:
        files.write_atomic(path, stream.getvalue())
    except OSError as error:
        known = (words for codes, words in WRITE_TROUBLE.items() if error.errno in codes)
        other = f"cannot be written ({error.strerror or error})"
        raise PictureError(path, next(known, other)) from None


def to_jpeg(data: bytes, width: int = 480, quality: int = 55, full_colour: bool = False) -> bytes:
    """Return an encoded picture as a JPEG of at most that width: small, for a first look.

    full_colour: colour at full resolution, for figures whose subject is colour.
    """
    image = _open(data, "picture")[0].convert("RGB")
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
    if fit == "crop":
        return np.array(ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS))
    if fit == "keep":
        scale = max(height / image.height, width / image.width)
        height = max(height, round(image.height * scale))
        width = max(width, round(image.width * scale))
        if height * width > MAX_PIXELS:
            raise ValueError(f"a picture of {width} x {height} is too large; choose a smaller size")
    elif fit != "squash":
        raise ValueError(f"fit must be crop, squash or keep, not {fit!r}")
    return np.array(image.resize((width, height), Image.Resampling.LANCZOS))


def find(where: str | Path) -> list[Path]:
    """Return the picture files of a file, a folder (with all below it) or a glob, sorted."""
    place = Path(os.path.expanduser(where))  # os.path raises nothing for odd or forbidden names
    if os.path.isdir(place):
        found = sorted(path for path in place.rglob("*") if _looks_like_picture(path, place))
        if not found:
            raise PictureError(place, f"holds no picture ({' '.join(SUFFIXES)})")
        return found
    if os.path.lexists(place):
        return [place]
    if not glob.has_magic(str(place)):
        raise PictureError(place, "no such file or folder; check the name")
    names = (n for n in glob.glob(str(place), recursive=True) if not os.path.isdir(n))
    if found := sorted(map(Path, names)):
        return found
    raise PictureError(place, "no file has a name like that; check the pattern")


def _looks_like_picture(path: Path, below: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(below).parts)
    return path.suffix.lower() in SUFFIXES and not hidden and not path.is_dir()


def _open(data: bytes, path: str | Path, enough: int = 0) -> tuple[Image.Image, tuple[int, int]]:
    """Decode a picture and turn it upright; return it and its own (H, W).

    enough: a JPEG may be decoded at 1/2, 1/4 or 1/8, if so many pixels remain on each side.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=READABLE)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise Image.DecompressionBombError
        if enough:
            image.draft(image.mode, (enough, enough))
        image.load()
    except UnidentifiedImageError:
        raise PictureError(path, "is not a picture that can be read; save it as PNG") from None
    except Image.DecompressionBombError:
        limit = f"more than {MAX_PIXELS // 10**6} megapixels"
        raise PictureError(path, f"has {limit}; make it smaller first") from None
    except Exception as error:  # damaged bytes: the decoders raise almost anything
        raise PictureError(path, _damaged(error)) from None
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception:  # unreadable EXIF says nothing about the pixels, which are fine
        upright = image
    turned = (upright.width > upright.height) != (image.width > image.height)
    return upright, (width, height) if turned else (height, width)


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


def _damaged(error: Exception) -> str:
    detail = " ".join(str(error).split())[:100] or type(error).__name__
    return f"is damaged or cut short ({detail}); fetch or export it again"
