"""One thread a test process: two run side by side, and equal threads repeat bitwise."""

import os

os.environ.setdefault("COLORLIB_THREADS", "1")

import pytest
import torch
from hypothesis import settings

import colorlib  # noqa: F401  before torchvision, torchmetrics and fastai

torch.set_num_threads(1)
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Keep all tests of one executed notebook in one process: it is executed once."""
    if "executed" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.xdist_group(item.callspec.params["executed"]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the slow runs of notebooks start first."""
    items.sort(key=lambda item: "test_run_notebooks" not in item.nodeid)
