"""The archives of the named data sets: fetched once, verified, unpacked whole or not at all."""

import hashlib
import tarfile
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import yaml
from filelock import FileLock
from tqdm import tqdm

from colorlib import files, pictures


class DatasetError(Exception):
    """A data set that cannot be had: which one, what is wrong, how to mend it."""


class Archive(NamedTuple):
    """A published archive: digest "kind:hex", bytes, and the folder inside that is taken."""

    url: str
    digest: str
    size: int
    inside: str
    licence: str


_PUBLISHED = yaml.safe_load((files.TEMPLATES / "archives.yml").read_text("utf-8"))
ARCHIVES = {name: Archive(**about) for name, about in _PUBLISHED.items()}


def fetch(name: str) -> Path:
    """Download and unpack a named archive, if nobody has; return the folder of its pictures."""
    archive, cache = ARCHIVES[name], files.data_root() / "cache"
    folder, place = cache / name, cache / archive.url.rsplit("/", 1)[-1]
    import requests  # a third of a second, which only a download pays

    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{place.name}.lock"):  # a second process waits, then finds it here
            if not folder.is_dir():
                with TemporaryDirectory(prefix=".", dir=cache) as partial:
                    by_hand = place.exists()  # then it stays
                    found = place if by_hand else _download(name, archive, Path(partial, "archive"))
                    _unpack(archive, found, folder)
    except (requests.RequestException, ValueError) as error:
        what = error if isinstance(error, OSError) else "it is not the published archive"
        raise DatasetError(
            f"{name}: cannot fetch {archive.url} ({what}); put {place.name}, {archive.digest}, "
            f"into {cache}, or its pictures into {files.data_root() / name}"
        ) from None
    except OSError as error:
        raise DatasetError(
            f"{name}: cannot write to {cache} ({error.strerror or error}); free some space, change "
            "its permissions or name another folder with COLORLIB_DATA"
        ) from None
    return folder


def _download(name: str, archive: Archive, place: Path) -> Path:
    """Save what the address answers, but no more than was published."""
    import requests

    answer = requests.get(archive.url, stream=True, timeout=30)
    how = {"total": archive.size, "unit": "B", "unit_scale": True, "disable": None}
    with answer, tqdm(desc=name, **how) as bar, open(place, "wb") as stream:
        answer.raise_for_status()
        for chunk in answer.iter_content(2**20):
            bar.update(stream.write(chunk))
            if stream.tell() > archive.size:
                raise ValueError("it does not end where it should")
    return place


def _unpack(archive: Archive, place: Path, folder: Path) -> None:
    """Unpack pictures and licence, no links and nothing that climbs out, into a whole folder."""
    kind, published = archive.digest.split(":")
    with open(place, "rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as content:
        if hashlib.new(kind, content).hexdigest() != published:
            raise ValueError(f"{place} is another file")
    with TemporaryDirectory(prefix=".", dir=folder.parent) as partial, tarfile.open(place) as tar:
        for member in filter(tarfile.TarInfo.isreg, tar):
            path, kinds = Path(member.name), (".txt", *pictures.SUFFIXES)
            if path.is_relative_to(archive.inside) and path.suffix.lower() in kinds:
                if ".." in path.parts:
                    raise ValueError(f"{path} climbs out of its folder")
                target = Path(partial, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(tar.extractfile(member).read())
        files.sync(Path(partial))
        (Path(partial) / archive.inside).replace(folder)
