"""What the fault suite has tried, and what became of it, in four numbers at its end."""

from __future__ import annotations

import inspect
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from test_cli import project as commanded  # noqa: F401  fixtures, under names of their own
from test_notebooks import project as limited  # noqa: F401
from test_plan import project as planned  # noqa: F401


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


@pytest.fixture
def renamed(monkeypatch) -> dict[str, list[Path]]:
    """What gets a name during the test, and which files of it were not on the disk by then."""
    synced, found, fsync = set(), {}, os.fsync

    def sync(handle: int) -> None:
        synced.add(os.fstat(handle).st_ino)
        fsync(handle)

    def watched(real: Callable) -> Callable:
        def move(source, target, **options):
            files = [path for path in [Path(source), *Path(source).rglob("*")] if path.is_file()]
            lost = [path for path in files if path.stat().st_ino not in synced]
            found.setdefault(Path(target).name, []).extend(lost)
            return real(source, target, **options)

        return move

    monkeypatch.setattr(os, "fsync", sync)
    for owner, name in ((os, "replace"), (Path, "replace"), (Path, "rename")):
        monkeypatch.setattr(owner, name, watched(getattr(owner, name)))
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Count a test as one case, refused if refusing is what it asks for, unless it counted."""
    report = yield
    if report.failed or (call.when == "call" and not report.skipped):
        told = dict(getattr(item, "tally", {}))
        asked = "raises(" in inspect.getsource(item.function) or "refus" in item.name
        told = told or {"refused" if asked else "used": 1}
        report.user_properties.append(("faults", told if report.passed else {"lost": 1}))
    return report


def pytest_terminal_summary(terminalreporter) -> None:
    kinds = ("passed", "failed", "error")
    reports = [report for kind in kinds for report in terminalreporter.stats.get(kind, ())]
    found = sum((Counter(dict(r.user_properties).get("faults", {})) for r in reports), Counter())
    if tried := found.total():
        figures = f"{found['refused']} refused, {found['used']} used, {found['lost']} lost"
        terminalreporter.write_line(f"faults: {tried} tried, {figures}")
