"""Pictures by name or folder: decoded once into a uint8 memory map, split so that none ever moves.

Rows stand in the order training, validation, test: splits are views of the memory map.
"""

import csv
import json
import os
import re
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from colorlib import color, files, pictures
from colorlib.downloads import ARCHIVES, DatasetError, fetch
from colorlib.pictures import PictureError

TRAIN, VALIDATION, TEST = 1, 2, 4  # bits: in a set of one or two pictures each has them all
MANY = "CC BY, CC BY-SA, CC0 and others, see data/credits.tsv"
EMBEDDED = {"flowers": "CC BY 2.0"} | dict.fromkeys(("scenes", "things", "old", "pairs"), MANY)
EMBEDDED |= {"sketches": "CC BY 4.0"}
KNOWN = (*EMBEDDED, *ARCHIVES)
CHOICES = ("alps_hut", "apples", "carrots", "gully", "heath_pond")  # pairs to choose settings on,
CHOICES += ("lions", "peaks", "sunflower1", "taj_mahal", "valley_haze")  # results are of others
COLUMNS = ("names", "digests", "shapes")


@dataclass(frozen=True, eq=False, repr=False)
class PictureSet:
    """Square pictures of one size with what is known of each.

    pictures uint8 (N, size, size, 3); names "set/file"; digests SHA-1 of the files; shapes the
    original (H, W); credits by name; skipped: a line for each bad file; note: what was odd.
    """

    name: str
    size: int
    fit: str
    pictures: np.ndarray
    names: list[str]
    digests: list[str]
    shapes: list[tuple[int, int]]
    roles: np.ndarray
    credits: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    note: str = ""

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def hash(self) -> str:
        """SHA-1 of all digests, the size and the fit: the same pictures, the same hash."""
        return files.sha(json.dumps([self.size, self.fit, self.digests]).encode(), "sha1")

    # SHA-1 mod 10, of the file or of its place, decides: 8 validates, 9 tests
    train = cached_property(lambda self: self.subset(self.roles & TRAIN > 0))
    validation = cached_property(lambda self: self.subset(self.roles & VALIDATION > 0))
    test = cached_property(lambda self: self.subset(self.roles & TEST > 0))
    counts = property(
        lambda s: dict(name=s.name, train=len(s.train), test=len(s.test), hash=s.hash)
    )

    def subset(self, indices: slice | Sequence[int] | np.ndarray) -> "PictureSet":
        """Return some pictures (indices, a mask or a slice); each stays in its split."""
        if not isinstance(indices, slice):
            indices = np.asarray(indices, None if len(indices) else int)
        rows = np.arange(len(self))[indices]
        neighbours = len(rows) and np.all(np.diff(rows) == 1)  # then a view, which costs nothing
        pictures = self.pictures[slice(rows[0], rows[-1] + 1) if neighbours else rows]
        columns = {key: [getattr(self, key)[row] for row in rows] for key in COLUMNS}
        credits = {name: self.credits[name] for name in columns["names"] if name in self.credits}
        return replace(self, pictures=pictures, roles=self.roles[rows], credits=credits, **columns)

    def spread(self, most: int) -> "PictureSet":
        """Return at most so many pictures, evenly over the set, whose order is that of names."""
        places = np.linspace(0, len(self) - 1, min(most, len(self)))
        return self.subset(np.unique(places.round().astype(int)))

    @property
    def credit_line(self) -> str:
        """Who to credit under a figure of these pictures; each name once."""
        return "; ".join(dict.fromkeys(self.credits.values()))

    def tensor(self, indices: slice | Sequence[int] | np.ndarray = slice(None)) -> Tensor:
        """Return pictures as a uint8 tensor (B, 3, size, size)."""
        return color.as_batch(self.subset(indices).pictures).contiguous()


class Coin(NamedTuple):
    """Two equally likely colourings of the same greys, uint8 (N, H, W, 3): heads where `up`."""

    heads: np.ndarray
    tails: np.ndarray
    up: np.ndarray
    pictures: np.ndarray  # as the coin decided


def load(name: str, size: int, *, fit: str = "crop", count: int = 0, seed: int = 0) -> PictureSet:
    """Load a set as square pictures of `size` pixels; fit: crop, or squash.

    name: one of KNOWN, a folder (from the current directory, else from the data folder), or
    several of these joined by commas. count: how many pictures, chosen by the seed and shared
    among the joined sets; 0: all.
    """
    if fit not in ("crop", "squash"):
        raise ValueError(f"fit must be crop or squash, not {fit!r}")
    parts = [part.strip() for part in name.split(",") if part.strip()]
    if not parts:
        raise DatasetError(f"no data set is named; choose {', '.join(KNOWN)} or a folder")
    counts = [count // len(parts) + (i < count % len(parts)) for i in range(len(parts))]
    shares = [share for share in zip(parts, counts, strict=True) if share[1] or not count]
    sets = [_load_folder(find_folder(part), size, fit, most, seed) for part, most in shares]
    return _join(sets) if len(sets) > 1 else sets[0]


def photo(name: str) -> np.ndarray:
    """Return an embedded photograph at its full size, uint8 (H, W, 3): "flowers/tff_rose-1"."""
    return pictures.read_rgb(embedded() / f"{name}.jpg")


def credit(name: str) -> str:
    """Return whom to credit for an embedded photograph: "Author, CC BY 2.0"."""
    path = embedded() / f"{name}.jpg"
    return credits_of(path.parent)[path.name]


def coin(pictures: np.ndarray, seed: int = 0, angle: float = 120.0) -> Coin:
    """Give every picture, uint8 (N, H, W, 3), a second colouring of the same L, and toss for it.

    Its ab is turned by `angle` degrees about grey; both keep only the chroma that sRGB can show
    in either, so that neither is the duller one.
    """
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    turn = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float32)
    heads, tails = np.empty_like(pictures), np.empty_like(pictures)
    for start in range(0, len(pictures), 64):
        rows = slice(start, start + 64)
        lightness, ab = color.rgb_to_lab(color.as_rgb(pictures[rows])).split((1, 2), 1)
        other = torch.einsum("ij,bjhw->bihw", turn, ab)
        shown = color.fit_gamut(torch.cat((lightness, other), 1))
        kept = shown[:, 1:].norm(dim=1, keepdim=True) / other.norm(dim=1, keepdim=True).clamp(1e-6)
        heads[rows] = color.to_pictures(color.lab_to_rgb(torch.cat((lightness, ab * kept), 1)))
        tails[rows] = color.to_pictures(color.lab_to_rgb(shown))
    up = np.random.default_rng(seed).integers(0, 2, len(pictures)).astype(bool)
    return Coin(heads, tails, up, np.where(up[:, None, None, None], heads, tails))


def status() -> list[tuple[str, str, str]]:
    """List all that `load` knows by name: what of it is here, its licence."""
    licences = EMBEDDED | {name: archive.licence for name, archive in ARCHIVES.items()}
    rows = []
    for name, licence in licences.items():
        place = next(filter(Path.is_dir, _places(name)), None)
        size = f"downloads {ARCHIVES[name].size / 1e6:.0f} MB" if name in ARCHIVES else "not here"
        here = place and f"{sum(p.suffix in pictures.SUFFIXES for p in place.rglob('*'))} pictures"
        rows.append((name, here or size, licence))
    return rows


def _load_folder(folder: Path, size: int, fit: str, count: int, seed: int) -> PictureSet:
    folder = Path(os.path.abspath(folder))  # "." has a name too; a link keeps its own
    name, stamps = folder.name, []
    try:
        paths = {path.relative_to(folder).as_posix(): path for path in pictures.find(folder)}
    except PictureError as error:
        raise DatasetError(str(error)) from None
    if 0 < count < len(paths):  # a choice that new files in the folder do not upset
        order = sorted(paths, key=lambda file: files.sha(f"{seed}:{name}/{file}".encode(), "sha1"))
        paths = {file: paths[file] for file in sorted(order[:count])}
    places = {file: row["place"] for file, row in _table(folder).items() if row.get("place")}
    for file, path in paths.items():  # what changes when a file does, or when it may be read
        stat = path.stat() if path.exists() else path.lstat()
        stamps.append([file, places.get(file), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns])
    identity = files.sha(json.dumps(stamps).encode())
    pixels, rows, skipped = _cached(name, size, fit, identity, paths, places)
    found, digests, shapes, groups = map(list, zip(*rows, strict=True))
    roles, note = _assign(groups)
    if folder == embedded() / "pairs":
        chosen = [file.rpartition("_")[0] in CHOICES for file in found]
        roles, note = np.where(chosen, TRAIN | VALIDATION, TEST).astype(np.uint8), ""
    names, lines = [f"{name}/{file}" for file in found], credits_of(folder)
    credits = {f"{name}/{file}": lines[file] for file in found if file in lines}
    columns = (names, digests, shapes, roles, credits, skipped, note)
    return PictureSet(name, size, fit, pixels, *columns)


def _cached(name: str, *facts: object) -> tuple[np.ndarray, list[tuple], list[str]]:
    """Read the pictures, or map into memory what an earlier call has read."""
    cache = files.data_root() / "cache"
    try:  # identity stands for what is ignored: names, places, sizes and times
        memory = joblib.Memory(cache, mmap_mode="r", verbose=0)
        return memory.cache(_read, ignore=["paths", "places"])(name, *facts)
    except (OSError, KeyError) as error:
        trouble = f"{name}: {cache} cannot be used ({error}), so the pictures are kept in memory"
        warnings.warn(f"{trouble}; name another folder with COLORLIB_DATA", stacklevel=2)
        return _read(name, *facts)


def _read(
    name: str, size: int, fit: str, identity: str, paths: dict[str, Path], places: dict[str, str]
) -> tuple[np.ndarray, list[tuple], list[str]]:
    """Return pixels in the order of the splits, (file, digest, shape, group) of each, bad files."""

    def attempt(file: str) -> tuple | str:
        try:
            data = pictures.read_bytes(paths[file])
            rgb, digest = pictures.decode(data, paths[file]).rgb, files.sha(data, "sha1")
        except PictureError as error:
            return files.plain(f"{name}/{file}: {error.reason}")
        group = files.sha(places[file].encode(), "sha1") if file in places else digest
        return file, digest, rgb.shape[:2], group, pictures.resize(rgb, size, fit)

    with ThreadPoolExecutor(8) as pool:  # decoders and filters let other threads run
        look = {"desc": f"{name}: reading", "disable": None, "delay": 2, "leave": False}
        found = list(tqdm(pool.map(attempt, paths), total=len(paths), **look))
    skipped = [line for line in found if isinstance(line, str)]
    rows = [row for row in found if not isinstance(row, str)]
    if not rows:
        first = f" ({len(skipped)} bad: {skipped[0]})"
        raise DatasetError(f"{name}: holds no readable picture{first}; name another folder")
    rows.sort(key=lambda row: (_role(row[3]), row[0]))
    return np.stack([row[-1] for row in rows]), [row[:-1] for row in rows], skipped


def _join(parts: list[PictureSet]) -> PictureSet:
    """Mix sets; every picture keeps the split that it has in its own set."""
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        raise DatasetError(f"{','.join(names)}: two sets of one name; rename one of the folders")
    pieces = [part.subset(part.roles == role) for role in range(1, 8) for part in parts]
    columns = {key: [one for piece in pieces for one in getattr(piece, key)] for key in COLUMNS}
    return replace(
        parts[0],
        name=",".join(names),
        pictures=np.concatenate([piece.pictures for piece in pieces]),
        roles=np.concatenate([piece.roles for piece in pieces]),
        credits={name: line for part in parts for name, line in part.credits.items()},
        skipped=[line for part in parts for line in part.skipped],
        note="; ".join(f"{part.name}: {part.note}" for part in parts if part.note),
        **columns,
    )


def embedded() -> Path:
    """Return the folder of the embedded photographs, also while another project runs."""
    places = [files.root() / "data", Path(__file__).parents[1] / "data"]
    return next((place for place in places if (place / "credits.tsv").is_file()), places[0])


def _places(name: str) -> list[Path]:
    root, place = files.data_root(), Path(name).expanduser()
    if name in EMBEDDED:
        return [embedded() / name]
    if name in ARCHIVES:
        return [root / name, root / "cache" / name]
    return [Path.cwd() / place, root / place]  # an absolute place stays itself


def find_folder(name: str) -> Path:
    """Return the folder of a set, or a folder from here or from the data folder."""
    for place in filter(Path.is_dir, _places(name)):
        return place
    if name in ARCHIVES:
        return fetch(name)
    here = f"no such set or folder here or in {files.data_root()}"
    raise DatasetError(f"{name}: {here}; named sets are {', '.join(KNOWN)}")


def _role(group: str) -> int:
    return {8: VALIDATION, 9: TEST}.get(int(group, 16) % 10, TRAIN)


def _assign(groups: list[str]) -> tuple[np.ndarray, str]:
    """Give each picture its split by its group's SHA-1; no split stays empty, the note says how."""
    roles, note = {group: _role(group) for group in sorted(set(groups))}, ""
    if len(roles) < 3:
        note = "too few pictures, each is training, validation and test at once"
        return np.full(len(groups), TRAIN | VALIDATION | TEST, np.uint8), note
    for role in (TEST, VALIDATION, TRAIN):
        given = list(roles.values())
        if role not in given:
            moved = given.index(max(given, key=given.count))
            roles[list(roles)[moved]] = role
            note = "too few pictures, some were moved so that no split is empty"
    return np.array([roles[group] for group in groups], np.uint8), note


def _table(folder: Path) -> dict[str, dict[str, str]]:
    """Read what the credits.tsv beside a folder says of the files in it."""
    place, prefix = folder.parent / "credits.tsv", f"{folder.name}/"
    text = place.read_text(encoding="utf-8", errors="replace") if place.is_file() else ""
    rows = csv.DictReader(text.split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE)
    ours = (row for row in rows if (row.get("file") or "").startswith(prefix))
    return {row["file"].removeprefix(prefix): row for row in ours}


def credits_of(folder: Path) -> dict[str, str]:
    """Return credit lines by file from credits.tsv, or from the LICENSE.txt of flower_photos."""
    fields = ("author", "licence")
    lines = {f: ", ".join(filter(None, map(row.get, fields))) for f, row in _table(folder).items()}
    line = re.compile(r"^(\S+) CC[- ]BY(?: 2\.0)? by (.*) - https?://(?:www\.)?(\S+?)/?\s*$", re.M)
    if (folder / "LICENSE.txt").is_file():
        text = (folder / "LICENSE.txt").read_text(encoding="utf-8", errors="replace")
        lines |= {file: f"{who}, {where}, CC BY 2.0" for file, who, where in line.findall(text)}
    return lines
