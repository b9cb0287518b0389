"""One thread a test process: two run side by side, and equal threads repeat bitwise."""

import os
import re

os.environ.setdefault("COLORLIB_THREADS", "1")

import pytest
import torch
from hypothesis import settings

import colorlib  # noqa: F401  before torchvision and fastai

torch.set_num_threads(1)
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

OF_NOTEBOOKS = re.compile(r"test_(run_notebooks|\d\d_|studies|site|lab)")


def pytest_configure(config: pytest.Config) -> None:
    for marker in ("slow: left out by `make quick`", "xdist_group(name): in one process"):
        config.addinivalue_line("markers", marker)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Keep all tests of one executed notebook in one process: it is executed once."""
    if "executed" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.xdist_group(item.callspec.params["executed"]))
    if OF_NOTEBOOKS.search(item.path.name):
        item.add_marker(pytest.mark.slow)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the slow runs of notebooks start first."""
    items.sort(key=lambda item: "test_run_notebooks" not in item.nodeid)
