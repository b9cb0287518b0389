"""The only place that decodes or writes an image file: a bad one becomes a clear PictureError."""

import contextlib
import glob
import io
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from colorlib import files

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm")
READABLE = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")  # no EPS: that starts Ghostscript
WRITABLE = {".png": "PNG", ".jpg": "JPEG"}
MAX_PIXELS = 120_000_000
MAX_BYTES, MAX_PROFILE = 1_000_000_000, 1_000_000  # of a file; of a profile, more Pillow refuses
# Pillow refuses a file of more than twice its limit; what it warns of names no file, and is said.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
warnings.filterwarnings("ignore", module=r"PIL\.")


class PictureError(Exception):
    """A picture that cannot be read or written: which file, what is wrong, how to mend it."""

    def __init__(self, path: str | Path, reason: str):
        super().__init__(files.plain(f"{path}: {reason}"))
        self.reason = reason


class Picture(NamedTuple):
    """An upright picture: uint8 rgb (H, W, 3), alpha (H, W) or None, an RGB profile or None."""

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None


def read(path: str | Path) -> Picture:
    """Read a picture file, whatever its kind; of a film the first frame."""
    return decode(read_bytes(path), path)


def read_rgb(path: str | Path) -> np.ndarray:
    """Read a picture file as upright uint8 (H, W, 3); transparency and profile are left aside."""
    return read(path).rgb


def read_bytes(path: str | Path) -> bytes:
    """Read a file's bytes; a missing, forbidden or empty file or a folder is a PictureError."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise PictureError(path, "is a folder, a pipe or a device; name a picture file")
    try:
        if os.path.getsize(path) > MAX_BYTES:
            raise PictureError(path, "is larger than a gigabyte; export it smaller")
        data = Path(path).read_bytes()
    except OSError as error:
        reason = f"cannot be read ({error.strerror or error}); check its name and permissions"
        raise PictureError(path, reason) from None
    if not data:
        raise PictureError(path, "is empty (0 bytes); fetch or export it again")
    return data


def decode(data: bytes, path: str | Path) -> Picture:
    """Decode the bytes of a file, whatever its kind."""
    try:
        image = Image.open(io.BytesIO(data), formats=READABLE)
        image.load()
        with contextlib.suppress(Exception):  # unreadable EXIF says nothing about fine pixels
            image = ImageOps.exif_transpose(image)
        alpha = _alpha(image) if image.has_transparency_data else None
        profile = image.info.get("icc_profile") or b""
        kept = profile[16:20] == b"RGB " and len(profile) <= MAX_PROFILE  # not a CMYK or grey one
        return Picture(_to_rgb(image), alpha, profile if kept else None)
    except UnidentifiedImageError:
        raise PictureError(path, "is not a picture that can be read; save it as PNG") from None
    except Image.DecompressionBombError:
        limit = f"more than {MAX_PIXELS // 10**6} megapixels"
        raise PictureError(path, f"has {limit}; make it smaller first") from None
    except Exception as error:  # damaged bytes: the decoders raise almost anything
        detail = " ".join(str(error).split())[:100] or type(error).__name__
        reason = f"cannot be decoded ({detail}); fetch it again or save it as 8-bit RGB"
        raise PictureError(path, reason) from None


def write(
    path: str | Path, rgb: np.ndarray, alpha: np.ndarray | None = None, icc: bytes | None = None
) -> None:
    """Write uint8 rgb (H, W, 3) as .png, with alpha (H, W), or as .jpg; whole or not at all."""
    kind = WRITABLE.get(Path(path).suffix.lower())
    if kind is None:
        raise PictureError(path, f"has another suffix than can be written: {' '.join(WRITABLE)}")
    rgb, stream = _check_rgb(rgb), io.BytesIO()
    image = Image.fromarray(np.dstack([rgb, alpha]) if alpha is not None and kind == "PNG" else rgb)
    try:  # with colour at full resolution: it is what these pictures are about
        image.save(stream, kind, icc_profile=icc, quality=92, subsampling=0)
        files.write_atomic(path, stream.getvalue())
    except OSError as error:
        reason = f"cannot be written ({error.strerror or error})"
        raise PictureError(path, f"{reason}; choose another folder or a smaller picture") from None


def to_jpeg(data: bytes, width: int = 480, quality: int = 55, full_colour: bool = False) -> bytes:
    """Return an encoded picture as a JPEG of at most that width: small, for a first look.

    full_colour: colour at full resolution, for figures whose subject is colour.
    """
    image = Image.fromarray(decode(data, "picture").rgb)
    image.thumbnail((width, image.height), Image.Resampling.LANCZOS)
    how = {"quality": quality, "optimize": True, "subsampling": 0 if full_colour else 2}
    image.save(stream := io.BytesIO(), "JPEG", **how)
    return stream.getvalue()


def resize(rgb: np.ndarray, size: int | tuple[int, int], fit: str = "crop") -> np.ndarray:
    """Resize uint8 (H, W, 3) with a Lanczos filter to size: a side, or (height, width).

    crop: scaled to cover the size, the middle kept; squash: both sides to the size, the shape
    given up; keep: scaled to cover the size, nothing cut off.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"size must be at least 1, not {size}")
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
        named = {p: f"/{p.relative_to(place).as_posix()}" for p in sorted(place.rglob("*"))}
        seen = [path for path, name in named.items() if "/." not in name and not path.is_dir()]
        found = [path for path in seen if path.suffix.lower() in SUFFIXES]
        trouble = f"holds no picture ({' '.join(SUFFIXES)})"
    else:
        names = [place] if os.path.lexists(place) else glob.glob(str(place), recursive=True)
        found = sorted(Path(name) for name in names if not os.path.isdir(name))
        trouble = "no such file or folder; check the name"
    if not found:
        raise PictureError(place, trouble)
    return found


def read_some(paths: list[Path], most: int = 12) -> dict[str, np.ndarray]:
    """Read the first pictures, to be shown, by name; a printed line for each that is left out."""
    if len(paths) > most:
        print(f"the first {most} of {len(paths)} are shown; `colorlib colorize` paints them all")
    found = {}
    for number, path in enumerate(paths[:most], 1):
        try:
            found[f"{path.name} ({number})"] = read_rgb(path)
        except PictureError as error:
            print(f"left out: {error}")
    return found


def _alpha(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # one grey that is transparent; a conversion clips all at 255
        return np.where(np.asarray(image) == image.info["transparency"], 0, 255).astype(np.uint8)
    return np.array(image.convert("RGBA"))[..., 3]


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16 bits of grey; Pillow's own conversion clips them at 255
        deep = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return np.repeat(((deep * 255 + 32767) // 65535).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("F", "LAB"):
        raise ValueError(f"it has pixels of the kind {image.mode}")
    return np.array(image.convert("RGB"))


def _check_rgb(rgb: np.ndarray) -> np.ndarray:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"rgb must be uint8 (H, W, 3), not {rgb.dtype} {rgb.shape}")
    return np.ascontiguousarray(rgb)
