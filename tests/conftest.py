"""One thread a process of the tests: two run side by side, and equal threads repeat bitwise."""

import os
import re

os.environ["COLORLIB_THREADS"] = "1"

from pathlib import Path

import exporting
import painting
import pytest
import tiny
import torch
from hypothesis import settings

import colorlib  # noqa: F401  before torchvision and fastai
from colorlib.batch import run as runner

torch.set_num_threads(1)
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

OF_NOTEBOOKS = re.compile(r"test_(run_notebooks|\d\d_|studies|site|lab)")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the long fault tests too")


def pytest_configure(config: pytest.Config) -> None:
    long = "long: only with --long, as in `make test-faults`"
    for marker in ("slow: left out by `make quick`", "xdist_group(name): in one process", long):
        config.addinivalue_line("markers", marker)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Keep all tests of one executed notebook in one process: it is executed once."""
    if "executed" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.xdist_group(item.callspec.params["executed"]))
    if OF_NOTEBOOKS.search(item.path.name):
        item.add_marker(pytest.mark.slow)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the slow runs of notebooks start first; leave out what is long."""
    if not config.getoption("--long"):
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    items.sort(key=lambda item: "test_run_notebooks" not in item.nodeid)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """One notebook whose execution is played, beside a colorlib of one module."""
    root = tiny.use(tmp_path.resolve(), monkeypatch)
    (root / "colorlib" / "batch").mkdir(parents=True)
    (root / "colorlib" / "color.py").write_text("")
    tiny.write(root, "01_good", "# Good", f"%%parameters\n{tiny.PARAMETERS}", "print(1)")
    monkeypatch.setattr(runner, "execute", tiny.play)
    return root


@pytest.fixture
def painters(tmp_path, monkeypatch) -> Path:
    """A project of notebooks that paint."""
    return painting.write_notebooks(tmp_path / "project", monkeypatch)


@pytest.fixture
def weights(tmp_path) -> Path:
    return painting.save(tmp_path / "painter.safetensors")


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    return exporting.export(tmp_path_factory.mktemp("page"))
