"""Pictures made by the tests."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


Turn = Image.Transpose


UNDO = {
    **{2: Turn.FLIP_LEFT_RIGHT, 3: Turn.ROTATE_180, 4: Turn.FLIP_TOP_BOTTOM, 5: Turn.TRANSPOSE},
    **{6: Turn.ROTATE_90, 7: Turn.TRANSVERSE, 8: Turn.ROTATE_270},
}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """A picture that JPEG and resizing leave nearly as it is, with unlike corners."""
    down, across = np.mgrid[0 : 1 : complex(height), 0 : 1 : complex(width)]
    channels = (60 + 150 * across, 60 + 150 * down, 200 - 120 * across * down)
    return np.stack(channels, axis=2).astype(np.uint8)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(np.asarray(one).astype(int) - other).mean())


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(depth: int, kind: int, rows: np.ndarray, size: tuple[int, int] = (0, 0)) -> bytes:
    """Encode a PNG that Pillow cannot write: 16-bit colour, or one that lies about its size."""
    width, height = size if any(size) else (rows.shape[1], rows.shape[0])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def blocks(seed: int, height: int = 30, width: int = 40) -> np.ndarray:
    """A picture of coloured blocks: no two seeds look alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def fill(folder: Path, count: int, suffix: str = ".png") -> Path:
    """Write pictures; as .bmp their bytes, and so their splits, are the same everywhere."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(blocks(i)).save(folder / f"{i:03d}{suffix}")
    return folder
