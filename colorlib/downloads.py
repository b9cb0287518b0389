"""Fetch the archives of the named data sets: resumed, verified, extracted whole or not at all."""

from __future__ import annotations

import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath

from filelock import FileLock
from tqdm import tqdm

from colorlib import files, pictures

TIMEOUT_SECONDS = 30
ATTEMPTS = 3
BLOCK = 1 << 18


class DatasetError(Exception):
    """A data set that cannot be had: which one, what is wrong, how to mend it."""


@dataclass(frozen=True)
class Archive:
    """A published archive: digest is "kind:hex", size in bytes, count in pictures.

    Of its members only the pictures and LICENSE.txt below `inside` are extracted.
    """

    url: str
    digest: str
    size: int
    count: int
    inside: str
    licence: str

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


ARCHIVES = {
    "flower_photos": Archive(
        url="https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
        digest="sha256:4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
        size=228_813_984,
        count=3670,
        inside="flower_photos",
        licence="CC BY 2.0, photographers in its LICENSE.txt",
    ),
    "flowers102": Archive(
        url="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz",
        digest="md5:52808999861908f626f3c1f4e79d11fa",
        size=344_862_509,
        count=8189,
        inside="jpg",
        licence="not stated; for research",
    ),
    "voc2012": Archive(
        url="https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        digest="md5:6cd6e144f989b92b3379bac3b3de84fd",
        size=1_999_639_040,
        count=17125,
        inside="VOCdevkit/VOC2012/JPEGImages",
        licence="Flickr terms of use; for research",
    ),
}


def fetch(name: str) -> Path:
    """Return the folder of a named archive's pictures, downloading and extracting it once."""
    archive, folder = ARCHIVES[name], files.data_root() / name
    if folder.is_dir():
        return folder
    downloads = files.data_root() / "downloads"
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        # A second process waits here and then finds the folder
        with FileLock(downloads / f"{archive.file_name}.lock"):
            if not folder.is_dir():
                _fetch_locked(name, archive, downloads / archive.file_name, folder)
    except OSError as error:
        raise DatasetError(f"{name}: {_disk_trouble(error, downloads)}") from None
    return folder


def _fetch_locked(name: str, archive: Archive, place: Path, folder: Path) -> None:
    """Fill the folder from the archive at `place`, put there by hand, or from a download of ours.

    Ours has another name: it goes once it is unpacked, also when that takes a second run.
    """
    source = fetched = place.with_name(place.name + ".fetched")
    if place.exists():
        if not _matches(place, archive.digest):
            raise DatasetError(
                f"{name}: {place} is not the published archive (its digest is not "
                f"{archive.digest}); remove it or fetch {archive.url} again"
            )
        source = place
    elif not (fetched.exists() and _matches(fetched, archive.digest)):
        partial = place.with_name(place.name + ".part")
        _download(name, archive, partial)
        if not _matches(partial, archive.digest):
            partial.unlink()
            raise DatasetError(
                f"{name}: what {archive.url} sent is not the published archive (its digest is "
                f"not {archive.digest}) and was removed; run again, or {_by_hand(archive)}"
            )
        partial.replace(fetched)
    _extract(name, archive, source, folder)
    fetched.unlink(missing_ok=True)


def _download(name: str, archive: Archive, partial: Path) -> None:
    """Fill the partial file, going on where an earlier attempt or run stopped."""
    have = _size(partial)
    free = shutil.disk_usage(partial.parent).free
    if free < 2 * archive.size - have:
        raise DatasetError(
            f"{name}: needs {2 * archive.size / 1e9:.1f} GB in {partial.parent}, {free / 1e9:.1f} "
            "GB are free; free some space or name another folder with COLORLIB_DATA"
        )
    failures, trouble = 0, ""
    look = {"unit": "B", "unit_scale": True, "desc": name, "mininterval": 0.5, "disable": None}
    with tqdm(total=archive.size, **look) as bar:
        while failures < ATTEMPTS:
            try:
                if _continue(archive.url, partial, bar):
                    return
                trouble = "the connection broke off"
            except urllib.error.HTTPError as error:
                trouble = f"{error.code} {error.reason}"
                failures = ATTEMPTS if error.code < 500 else failures
            except (urllib.error.URLError, HTTPException, ConnectionError) as error:
                trouble = str(getattr(error, "reason", error))
            before, have = have, _size(partial)
            failures = 0 if have > before and failures < ATTEMPTS else failures + 1
    again = f"; {have / 1e6:.1f} MB are kept, run again to go on" if have else ""
    raise DatasetError(
        f"{name}: cannot fetch {archive.url} ({trouble}){again}; "
        f"without a network {_by_hand(archive)}"
    )


def _continue(url: str, partial: Path, bar: tqdm) -> bool:
    """Append what is missing; return whether the server sent all that it had promised."""
    start = _size(partial)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing lies behind `start`
            raise
        return error.headers.get("Content-Range", "").endswith(f"/{start}") or _discard(partial)
    except urllib.error.URLError:
        raise
    except OSError as error:  # a server that takes the call and stays silent
        raise _network_fault(error) from None
    with response:
        if response.status != 206 or not _range_starts_at(response, start):
            start = 0  # a server that knows no ranges sends all of it once more
        promised = response.headers.get("Content-Length")
        bar.n = start
        if promised:
            bar.total = start + int(promised)
        bar.refresh()
        received = 0
        with open(partial, "ab" if start else "wb") as stream:
            for block in _blocks(response):
                stream.write(block)
                received += len(block)
                bar.update(len(block))
    return promised is None or received == int(promised)


def _blocks(response: HTTPResponse) -> Iterator[bytes]:
    """Yield what arrives; any fault of the network is a ConnectionError, unlike one of the disk."""
    try:
        while block := response.read(BLOCK):
            yield block
    except (OSError, HTTPException) as error:
        raise _network_fault(error) from None


def _network_fault(error: Exception) -> ConnectionError:
    return ConnectionError(str(error) or type(error).__name__)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _range_starts_at(response: HTTPResponse, start: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _discard(partial: Path) -> bool:
    """Remove a partial file that is longer than the server's; the next attempt starts anew."""
    partial.unlink()
    return False


def _extract(name: str, archive: Archive, place: Path, folder: Path) -> None:
    partial = place.with_name(f"{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed; the lock is ours
    partial.mkdir()
    try:
        with tarfile.open(place) as tar:
            look = {"desc": f"{name}: unpacking", "delay": 1, "disable": None}
            for member, inner in tqdm(_wanted(tar, archive.inside), total=archive.count, **look):
                target = partial.joinpath(*inner.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with tar.extractfile(member) as source, open(target, "wb") as stream:
                    shutil.copyfileobj(source, stream)
        if not any(partial.iterdir()):
            raise DatasetError(f"{name}: {place} holds no picture in {archive.inside}/")
        partial.replace(folder)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise DatasetError(f"{name}: {place} is damaged ({error}); remove it, run again") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _wanted(tar: tarfile.TarFile, inside: str) -> Iterator[tuple[tarfile.TarInfo, PurePosixPath]]:
    """Yield pictures and licence with their path below `inside`: no link, none that climbs out."""
    for member in tar:
        path = PurePosixPath(member.name)
        if not member.isreg() or not path.is_relative_to(inside) or ".." in path.parts:
            continue
        if path.suffix.lower() in pictures.SUFFIXES or path.name == "LICENSE.txt":
            yield member, path.relative_to(inside)


def _matches(path: Path, digest: str) -> bool:
    kind, value = digest.split(":")
    return files.sha(path, kind) == value


def _by_hand(archive: Archive) -> str:
    downloads = files.data_root() / "downloads"
    return (
        f"put {archive.file_name} into {downloads}, or let COLORLIB_DATA name a folder that "
        "holds the pictures in a folder of this name"
    )


def _disk_trouble(error: OSError, downloads: Path) -> str:
    return (
        f"cannot write to {downloads} ({error.strerror or error}); free some space, change its "
        "permissions or name another folder with COLORLIB_DATA"
    )
