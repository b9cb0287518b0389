"""Archives from a local server: verified, unpacked whole or not at all, plain words otherwise."""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorlib import downloads
from colorlib.datasets import DatasetError, load


@pytest.fixture(autouse=True)
def data_root(tmp_path, monkeypatch) -> Path:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("COLORLIB_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "data"


def encoded(seed: int) -> bytes:
    rgb = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "PNG")
    return stream.getvalue()


def make_tar(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return stream.getvalue()


TINY = make_tar(
    {
        "top/in/daisy/a.png": encoded(1),
        "top/in/rose/b.png": encoded(2),
        "top/in/LICENSE.txt": b"daisy/a.png CC-BY by Ann - https://www.flickr.com/photos/ann/1/\n",
        "top/in/notes.xml": b"not wanted",
        "top/other/c.png": encoded(3),
    }
)


class Server:
    """What the local server sends, and what it was asked for."""

    def __init__(self, body: bytes):
        self.body, self.status, self.requests, self.url = body, 200, [], ""


@contextmanager
def serve(body: bytes) -> Iterator[Server]:
    state = Server(body)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            state.requests.append(self.command)
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(state.body)))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(state.body)

        def log_message(self, *arguments: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_address[1]}/tiny.tgz"
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def publish(monkeypatch) -> Callable[..., None]:
    def publish(url: str, body: bytes = TINY, digest: str = "", size: int = 0) -> None:
        digest = digest or f"sha256:{hashlib.sha256(body).hexdigest()}"
        archive = downloads.Archive(url, digest, size or len(body), "top/in", "CC BY 2.0")
        monkeypatch.setitem(downloads.ARCHIVES, "tiny", archive)

    return publish


def left_over(data_root: Path) -> list[str]:
    """Return what lies in the cache, but for the locks and what decoding leaves."""
    found = [p.name for p in (data_root / "cache").iterdir() if p.name[0] != "."]
    return sorted(name for name in found if not name.endswith(".lock") and name != "colorlib")


def assert_tiny_is_whole(data_root: Path) -> None:
    found = load("tiny", 8)
    assert sorted(found.names) == ["tiny/daisy/a.png", "tiny/rose/b.png"]
    assert found.credits == {"tiny/daisy/a.png": "Ann, flickr.com/photos/ann/1, CC BY 2.0"}
    inside = {p.name for p in (data_root / "cache" / "tiny").rglob("*")}
    assert inside == {"daisy", "rose", "a.png", "b.png", "LICENSE.txt"}


@pytest.mark.parametrize("terminal", [True, False])
def test_fresh_download_happens_once_and_shows_a_bar(
    data_root, publish, monkeypatch, capsys, terminal
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with serve(TINY) as server:
        publish(server.url)
        assert_tiny_is_whole(data_root)
        assert_tiny_is_whole(data_root)
    assert server.requests == ["HEAD", "GET"]
    assert left_over(data_root) == ["tiny"]
    shown = capsys.readouterr().err
    assert "tiny: 100%" in shown if terminal else shown == ""


def test_wrong_checksum_is_refused_and_removed(data_root, publish):
    with serve(TINY) as server:
        publish(server.url, digest="md5:" + "0" * 32)
        with pytest.raises(DatasetError, match=r"tiny: .*it is not the published archive"):
            load("tiny", 8)
    assert left_over(data_root) == []


def test_a_larger_file_is_refused_before_it_is_downloaded(data_root, publish):
    with serve(TINY) as server:
        publish(server.url, size=len(TINY) - 1)
        with pytest.raises(DatasetError, match="it is not the published archive"):
            load("tiny", 8)
    assert server.requests == ["HEAD"] and left_over(data_root) == []


def test_without_a_network_it_says_what_to_do(data_root, publish):
    with serve(TINY) as server:
        publish(server.url)
        server.status = 503
        with pytest.raises(DatasetError, match="503"):
            load("tiny", 8)
    with pytest.raises(DatasetError) as error:  # the server is gone, its port is closed
        load("tiny", 8)
    text = str(error.value)
    assert f"into {data_root / 'cache'}, or its pictures into {data_root / 'tiny'}" in text
    assert "put tiny.tgz, sha256:" in text and "\n" not in text


def test_archive_placed_by_hand_is_used_and_kept(data_root, publish):
    publish("http://127.0.0.1:9/tiny.tgz")
    (data_root / "cache").mkdir()
    (data_root / "cache" / "tiny.tgz").write_bytes(TINY)
    assert_tiny_is_whole(data_root)
    assert left_over(data_root) == ["tiny", "tiny.tgz"]


def test_wrong_archive_placed_by_hand_is_not_unpacked(data_root, publish):
    publish("http://127.0.0.1:9/tiny.tgz")
    (data_root / "cache").mkdir()
    (data_root / "cache" / "tiny.tgz").write_bytes(TINY[:-1])
    with pytest.raises(DatasetError, match="cannot fetch"):
        load("tiny", 8)
    assert left_over(data_root) == ["tiny.tgz"]


def test_folder_in_the_data_folder_needs_no_archive(data_root, publish):
    publish("http://127.0.0.1:9/tiny.tgz")
    (data_root / "tiny").mkdir()
    (data_root / "tiny" / "a.png").write_bytes(encoded(1))
    assert load("tiny", 8).names == ["tiny/a.png"]


def test_links_are_left_behind_and_what_climbs_out_is_refused(tmp_path, data_root, publish):
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(9))
    links = {"top/in/link.png": str(secret), "top/in/folder": str(tmp_path)}
    (data_root / "cache").mkdir()
    for climbing in ({}, {"top/in/../../../../evil.png": encoded(2)}):
        body = make_tar({"top/in/a.png": encoded(1), "/top/in/b.png": encoded(3)} | climbing, links)
        publish("http://127.0.0.1:9/tiny.tgz", body)
        (data_root / "cache" / "tiny.tgz").write_bytes(body)
        before = {p for p in tmp_path.rglob("*") if data_root not in p.parents}
        if climbing:
            with pytest.raises(tarfile.FilterError):
                load("tiny", 8)
        else:
            assert load("tiny", 8).names == ["tiny/a.png"]
            assert [p.name for p in (data_root / "cache" / "tiny").iterdir()] == ["a.png"]
            (data_root / "cache" / "tiny" / "a.png").unlink()
            (data_root / "cache" / "tiny").rmdir()
        assert {p for p in tmp_path.rglob("*") if data_root not in p.parents} == before
    assert left_over(data_root) == ["tiny.tgz"]


def test_download_into_a_folder_that_cannot_be_written(tmp_path, publish, monkeypatch):
    publish("http://127.0.0.1:9/tiny.tgz")
    (tmp_path / "file").touch()
    monkeypatch.setenv("COLORLIB_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(DatasetError, match=r"tiny: cannot write to .*COLORLIB_DATA"):
        load("tiny", 8)


def test_three_at_once_download_once(data_root, publish):
    with serve(TINY) as server:
        publish(server.url)
        threads = [threading.Thread(target=downloads.fetch, args=("tiny",)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert_tiny_is_whole(data_root)
    assert server.requests == ["HEAD", "GET"]


def test_archives_are_described_fully():
    for archive in downloads.ARCHIVES.values():
        kind, value = archive.digest.split(":")
        assert len(value) == 2 * hashlib.new(kind).digest_size
        assert archive.url.startswith("https://") and archive.size > 10**8 and archive.licence
