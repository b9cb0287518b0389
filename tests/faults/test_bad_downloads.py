"""Archives from a local server: verified, unpacked whole or not at all, plain words otherwise."""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from colorlib import downloads
from colorlib.datasets import DatasetError, load


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("COLORLIB_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "data" / "cache").mkdir(parents=True)
    return tmp_path / "data" / "cache"


def encoded(seed: int) -> bytes:
    rgb = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "PNG")
    return stream.getvalue()


def make_tar(members: dict[str, bytes | str]) -> bytes:
    """Pack files by name; a text is the target of a link."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(body, str):
                info.type, info.linkname, body = tarfile.SYMTYPE, body, b""
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return stream.getvalue()


NOBODY = "http://127.0.0.1:9/tiny.tgz"  # nobody listens there
LICENCE = b"daisy/a.png CC-BY by Ann - https://www.flickr.com/photos/ann/1/\n"
INSIDE = {"daisy/a.png": encoded(1), "rose/b.png": encoded(2), "LICENSE.txt": LICENCE}
TINY = make_tar(
    {f"top/in/{name}": body for name, body in INSIDE.items()}
    | {"top/in/notes.xml": b"not wanted", "top/other/c.png": encoded(3)}
)


class Asked(list):
    """What a server was asked for, how much an endless answer sent, the moods of its next ones."""

    sent = 0


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        """Serve the file, unless this server is to be slow, silent, endless, cut or at fault."""
        mood, body = self.server.moods.pop(0) if self.server.moods else "", TINY
        if not mood:
            return super().do_GET()
        if mood == "endless":
            return self.never_end()
        self.send_response(500 if mood == "fails" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for start in range(0, len(body), 1 + len(body) // 4) if mood != "fails" else ():
            if start and mood in ("cut", "silent"):
                time.sleep(2 * (mood == "silent"))
                break
            self.wfile.write(body[start : start + 1 + len(body) // 4])
            self.wfile.flush()
            time.sleep(0.05)
        self.close_connection = True

    def never_end(self) -> None:
        self.send_response(200)
        self.end_headers()
        with suppress(ConnectionError):
            while True:
                self.server.asked.sent += self.wfile.write(bytes(2**16))

    def log_request(self, *_: object) -> None:
        self.server.asked.append(self.command)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


def publish(monkeypatch, url: str, body: bytes = TINY, **wrong: object) -> None:
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    archive = downloads.Archive(url, digest, len(body), "top/in", "CC BY 2.0")
    monkeypatch.setitem(downloads.ARCHIVES, "tiny", archive._replace(**wrong))


@pytest.fixture
def served(asked, tmp_path) -> str:
    """The address of the archive on the server."""
    (tmp_path / "served" / "tiny.tgz").write_bytes(TINY)
    return downloads.ARCHIVES["tiny"].url


@pytest.fixture
def asked(tmp_path, monkeypatch) -> Iterator[list[str]]:
    """What a server was asked for that has what lies in the folder `served`."""
    (tmp_path / "served").mkdir()
    handler = partial(Handler, directory=tmp_path / "served")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked, server.moods = Asked(), []
        server.asked.moods = server.moods
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        publish(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}/tiny.tgz")
        yield server.asked
        server.shutdown()


def left_over(cache: Path) -> list[str]:
    """Return what lies in the cache, but for the locks and what decoding leaves."""
    found = [p.name for p in cache.iterdir() if p.name[0] != "."]
    return sorted(name for name in found if not name.endswith(".lock") and name != "colorlib")


def assert_tiny_is_whole(cache: Path) -> None:
    found = load("tiny", 8)
    assert sorted(found.names) == ["tiny/daisy/a.png", "tiny/rose/b.png"]
    assert found.credits == {"tiny/daisy/a.png": "Ann, flickr.com/photos/ann/1, CC BY 2.0"}
    inside = {p.relative_to(cache / "tiny").as_posix() for p in (cache / "tiny").rglob("*.*")}
    assert inside == INSIDE.keys()


def test_several_at_once_download_once_with_a_bar(cache, asked, served, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(downloads.fetch, ["tiny"] * 3)) == {cache / "tiny"}
    assert_tiny_is_whole(cache)
    assert asked == ["GET"] and left_over(cache) == ["tiny"]
    assert "tiny: 100%" in capsys.readouterr().err


def test_another_archive_is_refused(cache, asked, served, monkeypatch):
    publish(monkeypatch, served, digest="md5:" + "0" * 32)
    with pytest.raises(DatasetError, match=r"tiny: .*it is not the published archive"):
        load("tiny", 8)
    assert left_over(cache) == []


def test_without_a_network_it_says_what_to_do(cache, asked, monkeypatch):
    with pytest.raises(DatasetError, match="404"):
        load("tiny", 8)
    publish(monkeypatch, NOBODY)
    with pytest.raises(DatasetError) as error:
        load("tiny", 8)
    text = str(error.value)
    assert f"into {cache}, or its pictures into {cache.parent / 'tiny'}" in text
    assert "put tiny.tgz, sha256:" in text and "\n" not in text


@pytest.mark.parametrize(
    ("mood", "words"),
    [
        *[("fails", "500"), ("cut", "cannot fetch"), ("silent", "timed out"), ("slow", "")],
        ("endless", "not the published archive"),
    ],
)
def test_a_bad_answer_is_one_line_and_the_next_try_begins_anew(
    cache, asked, served, monkeypatch, mood, words
):
    get = requests.get  # with a hundredth of the patience
    quick = lambda *a, timeout, **more: get(*a, timeout=timeout / 100, **more)  # noqa: E731
    monkeypatch.setattr(requests, "get", quick)
    asked.moods.append(mood)
    if words:
        with pytest.raises(DatasetError, match=words) as error:
            load("tiny", 8)
        assert "put tiny.tgz, sha256:" in str(error.value) and "\n" not in str(error.value)
        assert left_over(cache) == []
    assert_tiny_is_whole(cache)
    assert len(asked) == (2 if words else 1) and left_over(cache) == ["tiny"]
    assert asked.sent < 50 * 2**20, "what the network's buffers hold, not what the server has"


def test_what_is_unpacked_is_on_the_disk_before_it_gets_its_name(cache, served, renamed):
    assert_tiny_is_whole(cache)
    assert renamed["tiny"] == []


def test_what_was_placed_by_hand_is_used_and_kept_if_it_is_the_archive(cache, monkeypatch):
    publish(monkeypatch, NOBODY)
    (cache / "tiny.tgz").write_bytes(TINY[:-1])
    with pytest.raises(DatasetError, match="cannot fetch"):
        load("tiny", 8)
    assert left_over(cache) == ["tiny.tgz"]
    (cache / "tiny.tgz").write_bytes(TINY)
    assert_tiny_is_whole(cache)
    assert left_over(cache) == ["tiny", "tiny.tgz"]
    (cache.parent / "tiny").mkdir()  # a folder there comes first
    (cache.parent / "tiny" / "a.png").write_bytes(encoded(1))
    assert load("tiny", 8).names == ["tiny/a.png"]


@pytest.mark.parametrize("climbing", [{}, {"top/in/../../../../evil.png": encoded(2)}])
def test_links_are_left_behind_and_what_climbs_out_is_refused(
    tmp_path, cache, monkeypatch, climbing
):
    (tmp_path / "secret.png").write_bytes(encoded(9))
    links = {"top/in/link.png": str(tmp_path / "secret.png"), "top/in/folder": str(tmp_path)}
    body = make_tar({"top/in/a.png": encoded(1), "/top/in/b.png": encoded(3)} | climbing | links)
    publish(monkeypatch, NOBODY, body)
    (cache / "tiny.tgz").write_bytes(body)
    before = {p for p in tmp_path.rglob("*") if cache not in p.parents}
    if climbing:
        with pytest.raises(DatasetError, match="it is not the published archive"):
            load("tiny", 8)
    else:
        assert load("tiny", 8).names == ["tiny/a.png"]
        assert [p.name for p in (cache / "tiny").iterdir()] == ["a.png"]
    assert {p for p in tmp_path.rglob("*") if cache not in p.parents} == before
    assert left_over(cache) == (["tiny.tgz"] if climbing else ["tiny", "tiny.tgz"])


def test_download_into_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    publish(monkeypatch, NOBODY)
    (tmp_path / "file").touch()
    monkeypatch.setenv("COLORLIB_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(DatasetError, match=r"tiny: cannot write to .*COLORLIB_DATA"):
        load("tiny", 8)


def test_archives_are_described_fully():
    for archive in downloads.ARCHIVES.values():
        kind, value = archive.digest.split(":")
        assert len(value) == 2 * hashlib.new(kind).digest_size
        assert archive.url.startswith("https://") and archive.size > 10**8 and archive.licence
