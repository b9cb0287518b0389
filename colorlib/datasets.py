"""Pictures by name or folder: decoded once into a uint8 memory map, split so that none ever moves.

The rows of a set stand in the order training, validation, test: its splits are views of the
memory map, not copies.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import importlib.util
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from colorlib import files, garden, pictures
from colorlib.audit import Audit, audit
from colorlib.cache import Entry, Shelf, Stored, in_memory, stored
from colorlib.downloads import ARCHIVES, DatasetError, fetch
from colorlib.pictures import PictureError

__all__ = [
    "FREE_TO_SHOW",
    "PHOTOS",
    "Audit",
    "DatasetError",
    "PictureSet",
    "SetStatus",
    "audit",
    "load",
    "photo",
    "status",
]

TRAIN, VALIDATION, TEST = 1, 2, 4  # bits: in a set of one or two pictures a picture has several
GARDEN_COUNT = 1000
# Pictures whose licence lets a committed report show them, by the names that their folders have
FREE_TO_SHOW = [
    "garden/*",
    "photos/*",
    "flower_photos/*",
    "flowers/tff_*",
    "pairs/gt_dandelion*",
    "pairs/gt_sunflower*",
    "kodak/kodim*",
    "voc/dali_*",
    "sketches/quickdraw_*",
]
PHOTO_CROPS = 8


class Photo(NamedTuple):
    """A photo inside an installed package; photos of one group never part in a split."""

    package: str
    file: str
    group: str
    credit: str


PHOTOS = {
    "astronaut": Photo("skimage", "data/astronaut.png", "astronaut", "NASA, public domain"),
    "chelsea": Photo("skimage", "data/chelsea.png", "chelsea", "Stefan van der Walt, CC0"),
    "coffee": Photo("skimage", "data/coffee.png", "coffee", "Rachel Michetti, CC0"),
    "rocket": Photo("skimage", "data/rocket.jpg", "rocket", "SpaceX, public domain"),
    "motorcycle_left": Photo(
        "skimage", "data/motorcycle_left.png", "motorcycle", "Scharstein et al., Middlebury 2014"
    ),
    "motorcycle_right": Photo(
        "skimage", "data/motorcycle_right.png", "motorcycle", "Scharstein et al., Middlebury 2014"
    ),
    "retina": Photo("skimage", "data/retina.jpg", "retina", "Mikael Häggström, CC0"),
    "hubble": Photo("skimage", "data/hubble_deep_field.jpg", "hubble", "NASA, public domain"),
    "ihc": Photo("skimage", "data/ihc.png", "ihc", "scikit-image, no known restrictions"),
    "china": Photo(
        "sklearn", "datasets/images/china.jpg", "china", "danielbuechele (Flickr), CC BY 2.0"
    ),
    "flower": Photo(
        "sklearn", "datasets/images/flower.jpg", "flower", "vultilion (Flickr), CC BY 2.0"
    ),
}


@dataclass(frozen=True, eq=False, repr=False)
class PictureSet:
    """Square pictures of one size with what is known of each.

    pictures uint8 (N, size, size, 3); names "set/file"; digests SHA-1 (of a file's bytes, or of
    the pixels of garden and photos); shapes the original (H, W); credits by name; labels uint8
    (N, size, size) and their legend for the garden, else None; skipped one line per bad file.
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
    labels: np.ndarray | None = None
    legend: tuple[str, ...] | None = None
    skipped: list[str] = field(default_factory=list)
    note: str = ""

    def __repr__(self) -> str:
        parts = f"{len(self.train)} + {len(self.validation)} + {len(self.test)}"
        return f"PictureSet({self.name!r}, {len(self)} pictures of {self.size} px: {parts})"

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def hash(self) -> str:
        """SHA-1 of all digests, the size and the fit: the same pictures, the same hash."""
        return hashlib.sha1(json.dumps([self.size, self.fit, self.digests]).encode()).hexdigest()

    @cached_property
    def train(self) -> PictureSet:
        """The training pictures."""
        return self.subset(self.roles & TRAIN > 0)

    @cached_property
    def validation(self) -> PictureSet:
        """The validation pictures: SHA-1 mod 10 is 8."""
        return self.subset(self.roles & VALIDATION > 0)

    @cached_property
    def test(self) -> PictureSet:
        """The test pictures: SHA-1 mod 10 is 9."""
        return self.subset(self.roles & TEST > 0)

    def subset(self, indices: slice | Sequence[int] | np.ndarray) -> PictureSet:
        """Return some pictures (indices, a mask or a slice); each stays in its split."""
        rows = self._rows(indices)
        names = [self.names[row] for row in rows]
        return replace(
            self,
            pictures=_take(self.pictures, rows),
            names=names,
            digests=[self.digests[row] for row in rows],
            shapes=[self.shapes[row] for row in rows],
            roles=self.roles[rows],
            credits={name: self.credits[name] for name in names if name in self.credits},
            labels=None if self.labels is None else _take(self.labels, rows),
        )

    def spread(self, most: int) -> PictureSet:
        """Return at most so many pictures, evenly over the set: a folder's is in order of names."""
        places = np.linspace(0, len(self) - 1, min(most, len(self)))
        return self.subset(np.unique(places.round().astype(int)))

    def showable(self, patterns: Iterable[str]) -> PictureSet:
        """Return those whose names fit a pattern, as "flowers/tff_*"; none given: FREE_TO_SHOW."""
        patterns = list(patterns) or FREE_TO_SHOW
        return self.subset(
            [
                row
                for row, name in enumerate(self.names)
                if any(fnmatchcase(name, pattern) for pattern in patterns)
            ]
        )

    @property
    def credit_line(self) -> str:
        """Who to credit under a figure of these pictures; each name once."""
        return "; ".join(dict.fromkeys(self.credits.values()))

    def tensor(self, indices: slice | Sequence[int] | np.ndarray = slice(None)) -> Tensor:
        """Return pictures as a uint8 tensor (B, 3, size, size)."""
        chosen = self.pictures[self._rows(indices)]
        return torch.from_numpy(np.array(chosen.transpose(0, 3, 1, 2), order="C"))

    def _rows(self, indices: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        rows = np.arange(len(self))
        if isinstance(indices, slice):
            return rows[indices]
        indices = np.asarray(indices)
        return rows[indices if indices.size else slice(0)]


@dataclass(frozen=True)
class SetStatus:
    """A set that can be loaded by name: whether it is here, its pictures and bytes, its licence."""

    name: str
    present: bool
    pictures: int
    bytes: int
    licence: str
    how: str


def load(
    name: str,
    size: int,
    *,
    fit: Literal["crop", "squash"] = "crop",
    count: int = 0,
    seed: int = 0,
    kind: str = "flowers",
) -> PictureSet:
    """Load a set as square pictures of `size` pixels.

    name: garden, photos, flower_photos, flowers102, voc2012, a folder (relative to the current
    directory, else to the data folder), or several of these joined by commas. count: how many
    pictures, shared among the joined sets; 0 means all of a folder, 1000 of the garden and 8
    crops of each photo. seed: which garden, crops, or pictures of a folder. kind: which garden.
    """
    if fit not in ("crop", "squash"):
        raise ValueError(f"fit must be crop or squash, not {fit!r}")
    if size < 1 or count < 0:
        raise ValueError(f"size must be at least 1 and count at least 0, not {size} and {count}")
    parts = [part.strip() for part in str(name).split(",") if part.strip()]
    if not parts:
        raise DatasetError(f"no data set is named; choose {', '.join(_known())} or a folder")
    if len(parts) > 1 and not Path(name).is_dir():
        counts = [count // len(parts) + (i < count % len(parts)) for i in range(len(parts))]
        shares = [pair for pair in zip(parts, counts, strict=True) if pair[1] or not count]
        return _join([_load(part, size, fit, share, seed, kind) for part, share in shares])
    return _load(str(name).strip(), size, fit, count, seed, kind)


def photo(name: str) -> np.ndarray:
    """Return one of PHOTOS at its full size, uint8 (H, W, 3)."""
    if name not in PHOTOS:
        raise DatasetError(f"no photo is named {name!r}; choose {', '.join(PHOTOS)}")
    return pictures.read_rgb(_photo_path(name))


def status() -> list[SetStatus]:
    """List every set that `load` knows by name, and the folders of pictures in the data folder."""
    found = [p for p in map(_photo_path, PHOTOS) if p.is_file()]
    rows = [
        SetStatus("garden", True, GARDEN_COUNT, 0, "ours", "drawn on the fly"),
        SetStatus(
            "photos",
            bool(found),
            len(found),
            sum(path.stat().st_size for path in found),
            "CC0, public domain, CC BY 2.0 (two), Middlebury (two)",
            "in scikit-image and scikit-learn",
        ),
    ]
    for name, archive in ARCHIVES.items():
        count, size = _count(files.data_root() / name)
        how = "in the data folder" if count else f"downloads {archive.size / 1e6:.0f} MB when used"
        rows.append(SetStatus(name, count > 0, count, size, archive.licence, how))
    for folder in _data_folders():
        if folder.name not in ARCHIVES:
            count, size = _count(folder)
            if count:
                licence = "see its source"
                rows.append(SetStatus(folder.name, True, count, size, licence, "a folder of yours"))
    return rows


# --- sets -----------------------------------------------------------------------------------


def _load(name: str, size: int, fit: str, count: int, seed: int, kind: str) -> PictureSet:
    if name == "garden":
        return _load_garden(size, fit, count or GARDEN_COUNT, seed, kind)
    if name == "photos":
        return _load_photos(size, fit, count, seed)
    folder = fetch(name) if name in ARCHIVES else _find_folder(name)
    return _load_folder(folder, size, fit, count, seed)


def _load_garden(size: int, fit: str, count: int, seed: int, kind: str) -> PictureSet:
    def fill(shelf: Shelf) -> None:
        with tqdm(total=count, desc="garden: drawing", disable=None, delay=2, leave=False) as bar:
            drawn = garden.render(count, size, seed=seed, kind=kind, progress=bar.update)
        digests = [_digest(picture.tobytes()) for picture in drawn.rgb]
        shelf.legend = list(drawn.legend)
        for i in sorted(range(count), key=lambda i: (_role(digests[i]), i)):
            entry = Entry(f"garden/{i:06d}", digests[i], digests[i], (size, size))
            shelf.add(drawn.rgb[i], entry, drawn.labels[i])

    try:
        found = stored("garden", size, [_garden_version(), count, seed, kind], fill)
    except ValueError as error:  # the garden's word for a kind that it does not know
        raise DatasetError(f"garden: {error}") from None
    return _picture_set("garden", size, fit, found)


def _load_photos(size: int, fit: str, count: int, seed: int) -> PictureSet:
    wanted = count or PHOTO_CROPS * len(PHOTOS)
    crops = [(crop, name) for crop in range(-(-wanted // len(PHOTOS))) for name in PHOTOS][:wanted]
    groups = {name: _digest(f"photos/{item.group}".encode()) for name, item in PHOTOS.items()}
    crops.sort(key=lambda pair: (_role(groups[pair[1]]), pair[1], pair[0]))

    def fill(shelf: Shelf) -> None:
        for name, numbers in itertools.groupby(crops, key=lambda pair: pair[1]):
            try:
                whole = photo(name)
            except PictureError as error:
                shelf.skipped.append(f"photos/{name}: {error.reason}")
                continue
            for crop, _ in numbers:
                part = _random_square(whole, size, seed, name, crop) if crop else whole
                pixels = pictures.resize(part, size, fit)
                digest = _digest(pixels.tobytes())
                entry = Entry(f"photos/{name}-{crop:02d}", digest, groups[name], part.shape[:2])
                shelf.add(pixels, entry)

    found = _picture_set("photos", size, fit, in_memory("photos", size, fill))
    whole = {name: name.removeprefix("photos/").rpartition("-")[0] for name in found.names}
    credits = {name: PHOTOS[origin].credit for name, origin in whole.items()}
    return replace(found, credits=credits)


def _load_folder(folder: Path, size: int, fit: str, count: int, seed: int) -> PictureSet:
    folder = Path(os.path.abspath(folder))  # "." has a name too; a link keeps its own
    set_name = folder.name or "pictures"
    try:
        paths = pictures.find(folder)
    except PictureError as error:
        raise DatasetError(str(error)) from None
    named = {f"{set_name}/{path.relative_to(folder).as_posix()}": path for path in paths}
    if 0 < count < len(named):  # a choice that new files in the folder do not upset
        order = sorted(named, key=lambda name: _digest(f"{seed}:{name}".encode()))
        named = {name: named[name] for name in sorted(order[:count])}

    def fill(shelf: Shelf) -> None:
        _read_all(shelf, named, set_name, size, fit)

    key = [fit, [_stamp(name, path) for name, path in named.items()]]
    found = _picture_set(set_name, size, fit, stored(set_name, size, key, fill))
    return replace(found, credits=_credits(folder, found.names))


def _picture_set(name: str, size: int, fit: str, found: Stored) -> PictureSet:
    roles, note = _assign([entry.group for entry in found.entries])
    return PictureSet(
        name=name,
        size=size,
        fit=fit,
        pictures=found.pixels,
        names=[entry.name for entry in found.entries],
        digests=[entry.digest for entry in found.entries],
        shapes=[entry.shape for entry in found.entries],
        roles=roles,
        labels=found.labels,
        legend=found.legend,
        skipped=found.skipped,
        note=note,
    )


def _join(parts: list[PictureSet]) -> PictureSet:
    """Mix sets; every picture keeps the split that it has in its own set."""
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        raise DatasetError(f"{','.join(names)}: two sets of one name; rename one of the folders")
    pieces = [
        part.subset(part.roles == role)
        for role in range(1, TRAIN + VALIDATION + TEST + 1)
        for part in parts
    ]
    return replace(
        parts[0],
        name=",".join(names),
        pictures=np.concatenate([piece.pictures for piece in pieces]),
        names=[name for piece in pieces for name in piece.names],
        digests=[digest for piece in pieces for digest in piece.digests],
        shapes=[shape for piece in pieces for shape in piece.shapes],
        roles=np.concatenate([piece.roles for piece in pieces]),
        credits={name: line for part in parts for name, line in part.credits.items()},
        labels=None,
        legend=None,
        skipped=[line for part in parts for line in part.skipped],
        note="; ".join(f"{part.name}: {part.note}" for part in parts if part.note),
    )


def _known() -> list[str]:
    return ["garden", "photos", *ARCHIVES]


def _find_folder(name: str) -> Path:
    place = Path(name).expanduser()
    tried = [place] if place.is_absolute() else [Path.cwd() / place, files.data_root() / place]
    for candidate in tried:
        if candidate.is_dir():
            return candidate
    if any(candidate.exists() for candidate in tried):
        raise DatasetError(f"{name}: is a file where a folder of pictures is wanted")
    choices = _known() + [folder.name for folder in _data_folders()]
    near = difflib.get_close_matches(name, choices, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise DatasetError(
        f"{name}: no such set or folder here or in {files.data_root()}; {hint}"
        f"named sets are {', '.join(_known())}"
    )


def _data_folders() -> list[Path]:
    root = files.data_root()
    ours = ("cache", "downloads", "manifests")
    inside = root.iterdir() if root.is_dir() else ()
    return sorted(p for p in inside if p.is_dir() and p.name not in ours and p.name[0] != ".")


def _count(folder: Path) -> tuple[int, int]:
    if not folder.is_dir():
        return 0, 0
    try:
        found = pictures.find(folder)
    except PictureError:
        return 0, 0
    return len(found), sum(path.stat().st_size for path in found if path.exists())


def _garden_version() -> str:
    source = Path(garden.__file__)
    sources = sorted(source.parent.glob("*.py")) if source.name == "__init__.py" else [source]
    return _digest(b"".join(path.read_bytes() for path in sources))


def _photo_path(name: str) -> Path:
    spec = importlib.util.find_spec(PHOTOS[name].package)
    place = spec.submodule_search_locations[0] if spec else PHOTOS[name].package
    return Path(place, PHOTOS[name].file)


def _random_square(rgb: np.ndarray, size: int, seed: int, name: str, crop: int) -> np.ndarray:
    """Cut a square of 50 to 90 % of the short side, not smaller than `size` where that can be."""
    random = np.random.default_rng(int(_digest(f"{seed}:{name}:{crop}".encode()), 16))
    short = min(rgb.shape[:2])
    side = max(round(short * random.uniform(0.5, 0.9)), min(size, short))
    top = random.integers(rgb.shape[0] - side + 1)
    left = random.integers(rgb.shape[1] - side + 1)
    return rgb[top : top + side, left : left + side]


# --- splits ---------------------------------------------------------------------------------


def _digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def _role(digest: str) -> int:
    return {8: VALIDATION, 9: TEST}.get(int(digest, 16) % 10, TRAIN)


def _assign(groups: list[str]) -> tuple[np.ndarray, str]:
    """Give each picture its split by its group's SHA-1; no split stays empty, the note says how."""
    roles = {group: _role(group) for group in sorted(set(groups))}
    note = ""
    if len(roles) < 3:
        bits = {1: [TRAIN | VALIDATION | TEST], 2: [TRAIN, VALIDATION | TEST]}[len(roles)]
        roles = dict(zip(roles, bits, strict=True))
        what = "the one picture is training, validation and test at once"
        note = what if len(roles) == 1 else "one of two pictures is validation and test at once"
    for role, name in ((TEST, "test"), (VALIDATION, "validation"), (TRAIN, "training")):
        if not any(given & role for given in roles.values()):
            given = list(roles.values())
            largest = max((TRAIN, VALIDATION, TEST), key=given.count)
            roles[next(group for group in roles if roles[group] == largest)] = role
            note += f"{'; ' if note else ''}too few pictures, one was moved to {name}"
    return np.array([roles[group] for group in groups], dtype=np.uint8), note


def _take(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Index rows, as a view where they follow each other: a split of a memory map costs nothing."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and np.all(np.diff(rows) == 1):
        return array[rows[0] : rows[-1] + 1]
    return array[rows]


# --- files ----------------------------------------------------------------------------------


def _read_all(shelf: Shelf, named: dict[str, Path], set_name: str, size: int, fit: str) -> None:
    """Read every file in the order of its split; a bad one leaves a line."""

    def hash_file(name: str) -> str | PictureError:
        try:
            return _digest(pictures.read_bytes(named[name]))
        except PictureError as error:
            return error

    def decode(name: str) -> tuple[np.ndarray, tuple[int, int]] | PictureError:
        try:
            return pictures.read_resized(named[name], size, fit)
        except PictureError as error:
            return error

    with ThreadPoolExecutor(_threads()) as pool:  # decoders and filters let other threads run
        digests = dict(zip(named, pool.map(hash_file, named), strict=True))
        bad = {name: error for name, error in digests.items() if isinstance(error, PictureError)}
        order = sorted(named.keys() - bad.keys(), key=lambda name: (_role(digests[name]), name))
        bar = tqdm(order, f"{set_name}: reading", disable=None, delay=2, leave=False)
        for chunk in _chunks(bar, 64):
            for name, result in zip(chunk, pool.map(decode, chunk), strict=True):
                if isinstance(result, PictureError):
                    bad[name] = result
                else:
                    shelf.add(result[0], Entry(name, digests[name], digests[name], result[1]))
    shelf.skipped += [f"{name}: {bad[name].reason}" for name in sorted(bad)]


def _threads() -> int:
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(8, free or 1)


def _chunks(items: Iterable[str], length: int) -> Iterator[list[str]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, length)):
        yield chunk


def _stamp(name: str, path: Path) -> list[object]:
    """What changes when a file does (or when it may be read at last)."""
    if not path.exists():
        return [name]
    stat = path.stat()
    return [name, stat.st_size, stat.st_mtime_ns, os.access(path, os.R_OK)]


def _credits(folder: Path, names: list[str]) -> dict[str, str]:
    """Credit lines from *attribution.tsv in or beside the folder, or from its LICENSE.txt."""
    lines: dict[str, str] = {}
    for place in (folder.parent, folder):
        for table in sorted(place.glob("*attribution.tsv")):
            lines.update(_read_attribution(table))
    if (folder / "LICENSE.txt").is_file():
        lines.update(_read_licence(folder / "LICENSE.txt"))
    inner = {name: name.split("/", 1)[1] for name in names}
    return {name: lines[file] for name, file in inner.items() if file in lines}


def _read_attribution(table: Path) -> Iterator[tuple[str, str]]:
    """Read lines "file TAB photographer TAB Flickr user/photo" under a "# ... (LICENCE)" line."""
    licence = ""
    with open(table, encoding="utf-8", errors="replace", newline="") as stream:
        for row in csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE):
            if row and row[0].startswith("#"):
                found = re.search(r"\(([^)]*)\)", row[0])
                licence = found[1] if found else licence
            elif len(row) >= 2:
                source = f"flickr.com/photos/{row[2]}" if len(row) > 2 and row[2] else ""
                yield row[0], ", ".join(filter(None, (row[1], source, licence)))


def _read_licence(path: Path) -> Iterator[tuple[str, str]]:
    """Read flower_photos' lines "daisy/1.jpg CC-BY by WHO - https://www.flickr.com/photos/..."."""
    line = re.compile(r"(\S+) CC[- ]BY(?: 2\.0)? by (.*) - https?://(?:www\.)?(\S+?)/?\s*$")
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if found := line.match(text):
            yield found[1], f"{found[2]}, {found[3]}, CC BY 2.0"
