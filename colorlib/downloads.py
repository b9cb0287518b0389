"""The archives of the named data sets: fetched once, verified, unpacked whole or not at all."""

from __future__ import annotations

import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

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


ARCHIVES = {
    "flower_photos": Archive(
        url="https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
        digest="sha256:4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
        size=228_813_984,
        inside="flower_photos",
        licence="CC BY 2.0, photographers in its LICENSE.txt",
    ),
    "flowers102": Archive(
        url="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz",
        digest="md5:52808999861908f626f3c1f4e79d11fa",
        size=344_862_509,
        inside="jpg",
        licence="not stated; for research",
    ),
    "voc2012": Archive(
        url="https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        digest="md5:6cd6e144f989b92b3379bac3b3de84fd",
        size=1_999_639_040,
        inside="VOCdevkit/VOC2012/JPEGImages",
        licence="Flickr terms of use; for research",
    ),
}


def fetch(name: str) -> Path:
    """Return the folder of a named archive's pictures, downloading and unpacking it once."""
    archive, cache = ARCHIVES[name], files.data_root() / "cache"
    for folder in (files.data_root() / name, cache / name):
        if folder.is_dir():
            return folder

    import pooch  # with requests a third of a second, which only a download pays
    import requests

    place = cache / archive.url.rsplit("/", 1)[-1]
    pooch.get_logger().setLevel("WARNING")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{place.name}.lock"):  # a second process waits, then finds it here
            if not folder.is_dir():
                by_hand = place.exists()  # then it is verified, and stays
                how = {"total": archive.size, "unit": "B", "unit_scale": True, "disable": None}
                with tqdm(desc=name, **how) as bar:
                    loader = pooch.HTTPDownloader(progressbar=bar)
                    pooch.retrieve(archive.url, archive.digest, place.name, cache, None, loader)
                _unpack(archive, place, folder)
                if not by_hand:
                    place.unlink()
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


def _unpack(archive: Archive, place: Path, folder: Path) -> None:
    """Unpack pictures and licence, no links and nothing that climbs out, into a whole folder."""

    def wanted(member: tarfile.TarInfo, where: str) -> tarfile.TarInfo | None:
        path, kinds = Path(member.name), (".txt", *pictures.SUFFIXES)
        ours = path.is_relative_to(archive.inside) and path.suffix.lower() in kinds
        return tarfile.data_filter(member, where) if ours and member.isreg() else None

    with TemporaryDirectory(prefix=".", dir=folder.parent) as partial, tarfile.open(place) as tar:
        tar.extractall(partial, filter=wanted)
        (Path(partial) / archive.inside).replace(folder)
