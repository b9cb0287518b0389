"""Decoded pictures on disk: written row by row, renamed when whole, verified when opened."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from colorlib import files
from colorlib.downloads import DatasetError

FORMAT = 1
CHECKED_BYTES = 1 << 28  # of a larger cache only evenly spaced pictures are verified on opening
DAY = 86_400.0


class Entry(NamedTuple):
    """What is known of a picture; pictures of one group (a SHA-1) never part in a split."""

    name: str
    digest: str
    group: str
    shape: tuple[int, int]


class Shelf:
    """Takes pictures row by row into two streams, and keeps what is known of each."""

    def __init__(self, pixels: BinaryIO, labels: BinaryIO):
        self.pixels, self.labels = pixels, labels
        self.entries: list[Entry] = []
        self.skipped: list[str] = []
        self.legend: list[str] | None = None
        self.sums: list[int] = []

    def add(self, rgb: np.ndarray, entry: Entry, labels: np.ndarray | None = None) -> None:
        """Append uint8 rgb (size, size, 3) and labels (size, size); labels need a legend."""
        row = rgb.tobytes()
        self.pixels.write(row)
        self.sums.append(zlib.crc32(row))
        if labels is not None:
            self.labels.write(labels.astype(np.uint8).tobytes())
        self.entries.append(entry)


@dataclass(frozen=True)
class Stored:
    """The filled shelf: pixels uint8 (N, size, size, 3), labels uint8 (N, size, size) or None."""

    pixels: np.ndarray
    labels: np.ndarray | None
    legend: tuple[str, ...] | None
    entries: list[Entry]
    skipped: list[str]


def stored(name: str, size: int, key: list[object], fill: Callable[[Shelf], None]) -> Stored:
    """Open the cache of (name, size, key); fill it first where there is none, or a damaged one.

    Where none can be written the pictures are kept in memory, with a warning.
    """
    identity = hashlib.sha1(json.dumps([FORMAT, name, size, key]).encode()).hexdigest()
    folder = files.data_root() / "cache" / f"{name}-{size}-{identity[:16]}"
    found = _open(folder, size)
    if found is not None:
        return found
    try:
        _build(folder, name, size, fill)
    except OSError as error:
        trouble = error.strerror or str(error)
    else:
        trouble = "it changed while it was read"
    found = _open(folder, size)
    if found is not None:
        return found
    warnings.warn(
        f"{name}: {folder.parent} cannot be used ({trouble}), so the pictures are kept in memory; "
        "free some space, or name another folder with COLORLIB_DATA",
        stacklevel=2,
    )
    return in_memory(name, size, fill)


def in_memory(name: str, size: int, fill: Callable[[Shelf], None]) -> Stored:
    """Fill a shelf that no file stands behind."""
    shelf = Shelf(io.BytesIO(), io.BytesIO())
    fill(shelf)
    _refuse_empty(name, shelf)
    pixels = np.frombuffer(shelf.pixels.getbuffer(), np.uint8).reshape(-1, size, size, 3)
    pixels.flags.writeable = False  # like a memory map
    labels = None
    if shelf.legend is not None:
        labels = np.frombuffer(shelf.labels.getbuffer(), np.uint8).reshape(-1, size, size)
    return Stored(pixels, labels, _legend(shelf.legend), shelf.entries, shelf.skipped)


def _build(folder: Path, name: str, size: int, fill: Callable[[Shelf], None]) -> None:
    """Fill a partial folder and rename it, so that no reader and no crash sees half of it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
    damaged = partial.with_name(partial.name + "-damaged")
    try:
        with open(partial / "pictures", "wb") as pixels, open(partial / "labels", "wb") as labels:
            shelf = Shelf(pixels, labels)
            fill(shelf)
        _refuse_empty(name, shelf)
        info = {
            "entries": shelf.entries,
            "skipped": shelf.skipped,
            "legend": shelf.legend,
            "sums": shelf.sums,
        }
        files.write_json(partial / "info.json", info)
        partial.chmod(0o755)
        if _open(folder, size) is None:  # else another process was faster
            with contextlib.suppress(FileNotFoundError):
                folder.replace(damaged)
            partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(damaged, ignore_errors=True)


def _sweep(cache: Path) -> None:
    """Remove what killed processes left behind: partial folders untouched for a day."""
    for partial in cache.glob(".partial-*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - partial.stat().st_mtime > DAY:
                shutil.rmtree(partial, ignore_errors=True)


def _open(folder: Path, size: int) -> Stored | None:
    """Open a cache; None where it is missing or damaged."""
    try:
        info = json.loads((folder / "info.json").read_text(encoding="utf-8"))
        entries = [Entry(n, digest, group, tuple(hw)) for n, digest, group, hw in info["entries"]]
        pixels = np.memmap(folder / "pictures", np.uint8, "r").reshape(len(entries), size, size, 3)
        labels = None
        if info["legend"] is not None:
            labels = np.memmap(folder / "labels", np.uint8, "r").reshape(pixels.shape[:3])
        step = 1 + pixels.nbytes // CHECKED_BYTES
        if any(zlib.crc32(pixels[i]) != info["sums"][i] for i in range(0, len(entries), step)):
            return None
        return Stored(pixels, labels, _legend(info["legend"]), entries, info["skipped"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _legend(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def _refuse_empty(name: str, shelf: Shelf) -> None:
    if not shelf.entries:
        bad = f" ({len(shelf.skipped)} bad: {shelf.skipped[0]})" if shelf.skipped else ""
        raise DatasetError(f"{name}: holds no readable picture{bad}; name another folder")
