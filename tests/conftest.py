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


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the slow runs of notebooks start first, all tests of one executed copy in one process."""
    for item in items:
        if "executed" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group(item.callspec.params["executed"]))
    items.sort(key=lambda item: "test_run_notebooks" not in item.nodeid)
