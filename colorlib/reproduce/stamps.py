"""What stands on disk: stamps of finished runs, partial places, swaps and locks."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from colorlib import files, notebooks
from colorlib.files import read_json
from colorlib.reproduce import tasks
from colorlib.reproduce.tasks import READS, RunError, Task, neighbour

STAMP = ".stamp.json"
REPORT = ("notebook.ipynb", "index.html", "metrics.json", "run.json", "figures", "weights")
REPORT += ("checkpoints", STAMP, ".ipynb_checkpoints", ".DS_Store")  # the last: of who reads it
OUTSIDE = ("__main__", "cli", "colorizing", "compare", "pages")  # no result depends on them


def stamp(task: Task) -> dict[str, str]:
    """Digest everything a run depends on; the keys name the parts."""
    parts = {
        "parameters": task.parameters,
        "data": [_listing(path) for path in tasks.named_paths(task).values()],
    }
    if task.name[:2] in READS:
        parts["the reports it reads"] = [_report_digest(p) for p in tasks.reports_read(task)]
    return {**code(task.name), **_digests(parts)}


def code(name: str) -> dict[str, str]:
    """Digest the code a run depends on: its notebook and colorlib."""
    cells = notebooks.cells(notebooks.path(name))
    source = [[cell["cell_type"], cell["source"], cell["tags"]] for cell in cells]
    modules = [[path.name, files.sha(path)] for path in _modules()]
    return _digests({"notebook": source, "colorlib": modules})


def _digests(parts: dict[str, Any]) -> dict[str, str]:
    return {key: files.sha(json.dumps(part).encode()) for key, part in parts.items()}


def _modules() -> list[Path]:
    """List the modules that a notebook's result can depend on."""
    runner = Path(__file__).parent
    found = sorted(runner.parent.rglob("*.py"))
    return [path for path in found if path.parent != runner and path.stem not in OUTSIDE]


def _listing(path: Path) -> list[list[Any]]:
    """List name, size and time of change of a file, or of all files of a folder or pattern."""
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file())
    else:
        found = tasks.matches(path) or [path]
    return [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in found]


def _report_digest(report: Path) -> list[Any]:
    """Digest what others read of a report: its scores, and the weights it left."""
    file, weights = report / "metrics.json", report / "weights"
    scores = files.sha(file) if file.exists() else ""
    return [scores, _listing(weights) if weights.is_dir() else []]


def changes(report: Path, current: dict[str, str]) -> str | None:
    """Say why a report must be made (again); None when this checkout finished this very run."""
    if not report.exists():
        return "new"
    old = read_json(report / STAMP)
    if not old.get("finished"):
        return "not run by this checkout"
    if old.get("executed") != executed_digest(report):
        return "the report was changed"
    return moved(old.get("parts", {}), current)


def moved(parts: dict[str, str], current: dict[str, str]) -> str | None:
    """Name the parts that are no longer what they were; None when all are."""
    changed = [key for key, digest in current.items() if parts.get(key) != digest]
    return f"{' and '.join(changed)} changed" if changed else None


def executed_digest(report: Path) -> str:
    file = report / "notebook.ipynb"
    return files.sha(file) if file.exists() else ""


def prepare(task: Task, current: dict[str, str]) -> None:
    """Make the partial place: empty but for the checkpoints of this very run, if it was killed."""
    partial = task.partial
    if read_json(partial / STAMP).get("parts") != current:
        _remove(partial)
    for path in sorted(partial.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):  # not empty: it holds a checkpoint
                path.rmdir()
        elif ".checkpoint" not in path.name:
            path.unlink()
    partial.mkdir(parents=True, exist_ok=True)
    files.write_json(partial / STAMP, {"parts": current})


def refuse_foreign(report: Path) -> None:
    """Refuse a place that holds anything but a report: publishing would take it away."""
    mend = "choose another place with -p report_dir FOLDER"
    if report.is_symlink() or (report.exists() and not report.is_dir()):
        raise RunError(f"{report} is a link or a file, not a folder; {mend}")
    ours = (*REPORT, *read_json(report / STAMP).get("files", ()))
    found = sorted(path.name for path in report.iterdir()) if report.exists() else []
    if foreign := [name for name in found if name not in ours]:
        raise RunError(f"{report} holds {foreign[0]}, which is no part of a report; {mend}")


def publish(partial: Path, report: Path) -> None:
    """Rename a whole run to its report; the one before it stays until the new one stands."""
    refuse_foreign(report)
    for checkpoint in sorted(partial.rglob("*.checkpoint*")):
        checkpoint.unlink()  # what was trained stands in weights/
        with contextlib.suppress(OSError):  # not empty
            checkpoint.parent.rmdir()
    old = neighbour(report, "old")
    if report.exists():
        _remove(old)
        report.rename(old)
    partial.rename(report)
    _remove(old)


def recover(report: Path) -> None:
    """Finish what a killed runner left between two renames."""
    partial, old = neighbour(report, "partial"), neighbour(report, "old")
    if read_json(partial / STAMP).get("finished"):
        publish(partial, report)
    elif old.exists() and not report.exists():
        old.rename(report)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def lock(report: Path) -> Iterator[None]:
    """Hold a report folder: another living runner is refused, a dead one's lock is taken over."""
    file = neighbour(report, "lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    while not _create(file, json.dumps({"pid": os.getpid(), "started": started(os.getpid())})):
        holder = read_json(file)
        pid = holder.get("pid")
        if started(pid) and abs(started(pid) - holder.get("started", 0)) < 1:
            raise RunError(f"another run (process {pid}) is writing {report}; wait or stop it")
        if not holder and file.exists() and time.time() - file.stat().st_mtime < 5:
            raise RunError(f"another run is just starting to write {report}")
        _take_away(file, holder)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _create(file: Path, content: str) -> bool:
    """Create a file that must not exist; False when it does."""
    try:
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as stream:
        stream.write(content)
    return True


def _take_away(file: Path, holder: dict[str, Any]) -> None:
    """Remove a stale lock; if a quicker runner has replaced it meanwhile, give it back."""
    aside = file.with_name(f"{file.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        file.rename(aside)
        if read_json(aside) != holder:
            _create(file, aside.read_text())
        aside.unlink()


def started(pid: Any) -> float:
    """Return when a process started, 0 when there is none: a number used again is not the same."""
    import psutil

    try:
        return psutil.Process(pid).create_time() if isinstance(pid, int) else 0.0
    except (psutil.Error, ValueError):
        return 0.0
