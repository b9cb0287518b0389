"""What the fault suite has tried, and what became of it, in four numbers at its end."""

from __future__ import annotations

import inspect
from collections import Counter
from pathlib import Path

import pytest
from test_cli import project as commanded  # noqa: F401  fixtures, under names of their own
from test_notebooks import project as limited  # noqa: F401
from test_plan import project as planned  # noqa: F401

HOW = ("refused", "used")


@pytest.fixture
def data_root(tmp_path, monkeypatch) -> Path:
    """An empty folder of data."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("COLORLIB_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def tally(request) -> Counter:
    """What became of the cases of a test of several: `tally["refused"] += 1`, or "used"."""
    request.node.tally = Counter()
    return request.node.tally


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Count a test as one case, refused if refusing is what it asks for, unless it counted."""
    report = yield
    if call.when == "call" and not report.skipped:
        told = dict(getattr(item, "tally", {}))
        asked = "raises(" in inspect.getsource(item.function) or "refus" in item.name
        told = told or {HOW[0] if asked else HOW[1]: 1}
        report.user_properties.append(("faults", told if report.passed else {"lost": 1}))
    return report


def pytest_terminal_summary(terminalreporter) -> None:
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, ())]
    found = sum((Counter(dict(r.user_properties).get("faults", {})) for r in reports), Counter())
    if tried := found.total():
        figures = f"{found['refused']} refused, {found['used']} used, {found['lost']} lost"
        terminalreporter.write_line(f"faults: {tried} tried, {figures}")
