"""What stands on disk: is a report whole and unchanged, whose is it, and who is writing it?"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

import colorlib
from colorlib import files, notebooks
from colorlib.batch import plan
from colorlib.batch.plan import RunError, Task
from colorlib.files import read_json

STAMP = ".stamp.json"
REPORT = ("notebook.ipynb", "index.html", "metrics.json", "run.json", "figures", "weights")
REPORT += ("checkpoints", STAMP, ".ipynb_checkpoints", ".DS_Store")  # the last: of who reads it
RESUMED = ("parameters", "data")  # a training checks by itself that its definitions are the same
KEPT = 3  # unfinished runs of other parameters, set aside
DATE, COMMIT = re.compile(r"\d{4}-\d\d-\d\d"), re.compile(r"[0-9a-f]{7,40}")
ELSEWHERE = "choose another place with -p report_dir FOLDER"


def stamp(task: Task) -> dict[str, str]:
    """Digest everything a run depends on; the keys name the parts."""
    kinds = (*notebooks.PROFILES, "local")
    read = [files.root() / "reports" / kind / name for kind in kinds for name in task.reads]
    scores = [report / "metrics.json" for report in read]
    parts = {
        "parameters": task.parameters,
        "data": [_listing(path) for path in plan.named_paths(task).values()],
        "the reports it reads": [
            [files.sha(file) for file in scores if file.is_file()],
            [_listing(report / "weights") for report in read],
        ],
    }
    return {**code(task.name), **_digests(parts)}


def code(name: str) -> dict[str, str]:
    """Digest the code a run depends on: its notebook and the helpers, not what runs them."""
    cells = notebooks.cells(notebooks.path(name))
    source = [[cell["cell_type"], cell["source"], cell["tags"]] for cell in cells]
    helpers = sorted(Path(colorlib.__file__).parent.glob("*.py"))
    return _digests({"notebook": source, "colorlib": [[h.name, files.sha(h)] for h in helpers]})


def _digests(parts: dict[str, Any]) -> dict[str, str]:
    return {key: files.sha(json.dumps(part).encode()) for key, part in parts.items()}


def _listing(path: Path) -> list[list[Any]]:
    """List name, size and time of change of a file, or of all files of a folder or pattern."""
    found = path.rglob("*") if path.is_dir() else plan.matches(path)
    return [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in sorted(found) if p.is_file()]


def changes(report: Path, current: dict[str, str]) -> str | None:
    """Say why a report must be made (again); None when this checkout finished this very run."""
    if not report.exists():
        return "new"
    old = read_json(report / STAMP)
    whole = old.get("files")
    if not old.get("finished") or not isinstance(whole, dict):
        return "not run by this checkout"
    for name, digest in whole.items():
        if not (report / name).is_file():
            return f"{name} is lost"
        if files.sha(report / name) != digest:
            return f"{name} was changed"
    return moved(old.get("parts"), current)


def moved(parts: Any, current: dict[str, str]) -> str | None:
    """Name the parts that are no longer what they were; None when all are."""
    parts = parts if isinstance(parts, dict) else {}
    changed = [key for key, digest in current.items() if parts.get(key) != digest]
    return f"{' and '.join(changed)} changed" if changed else None


def prepare(task: Task, current: dict[str, str]) -> None:
    """Make the partial place: empty but for the checkpoints of this very work, if it was killed.

    What another run left to go on from is set aside, not deleted.
    """
    partial = task.beside("partial")
    beside = partial.parent.glob(".*.partial-*")
    aside = sorted(path for path in beside if path.name.startswith(f"{partial.name}-"))
    places = [partial, *reversed(aside)]
    ours = next((place for place in places if _same_work(place, current)), None)
    if ours != partial:
        if any(partial.rglob("*.checkpoint*")):
            aside.append(partial.with_name(f"{partial.name}-{time.time_ns()}"))
            partial.rename(aside[-1])
        remove(partial)
        if ours:
            aside.remove(ours)
            ours.rename(partial)
        for old in aside[:-KEPT]:
            remove(old)
    for path in sorted(partial.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):  # not empty: it holds a checkpoint
                path.rmdir()
        elif ".checkpoint" not in path.name:
            path.unlink()
    partial.mkdir(parents=True, exist_ok=True)
    owner = {"notebook": task.name, "profile": task.profile}
    files.write_json(partial / STAMP, {**owner, "parts": current})


def _same_work(place: Path, current: dict[str, str]) -> bool:
    parts = read_json(place / STAMP).get("parts")
    return isinstance(parts, dict) and all(parts.get(key) == current[key] for key in RESUMED)


def seal(task: Task) -> None:
    """Write into a whole run that it ended, and what its files are."""
    partial = task.beside("partial")
    names = [p.relative_to(partial).as_posix() for p in sorted(partial.rglob("*")) if p.is_file()]
    whole = [name for name in names if name != STAMP and ".checkpoint" not in name]
    ended = {"finished": time.strftime("%Y-%m-%d %H:%M")}
    ended["files"] = {name: files.sha(partial / name) for name in whole}
    files.write_json(partial / STAMP, {**read_json(partial / STAMP), **ended})


def publish(task: Task) -> None:
    """Rename a sealed run to its report; the one before it stays until the new one stands."""
    refuse_foreign(task)
    partial, old = task.beside("partial"), task.beside("old")
    for checkpoint in sorted(partial.rglob("*.checkpoint*")):
        checkpoint.unlink()  # what was trained stands in weights/
        with contextlib.suppress(OSError):  # not empty
            checkpoint.parent.rmdir()
    if task.report.exists():
        remove(old)
        task.report.rename(old)
    partial.rename(task.report)
    remove(old)


def recover(task: Task) -> None:
    """Finish what a killed runner left between two renames."""
    old = task.beside("old")
    if read_json(task.beside("partial") / STAMP).get("finished"):
        publish(task)
    elif old.exists() and not task.report.exists():
        old.rename(task.report)
    remove(old)


def remove(path: Path) -> None:
    """Delete a folder, file or link, where there is one; what a link points to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def lock(task: Task) -> Iterator[None]:
    """Hold a report: another living runner is refused, a dead one's hold has died with it."""
    file = task.beside("lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(file, timeout=0):
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # some systems remove no file that is open
                    file.unlink()
    except filelock.Timeout:
        raise RunError(f"another run is writing {task.report}; wait for it, or stop it") from None


def refuse_foreign(task: Task) -> None:
    """Refuse a place that holds anything but a report of this notebook and profile."""
    report = task.report
    if report.is_symlink() or (report.exists() and not report.is_dir()):
        raise RunError(f"{report} is a link or a file, not a folder; {ELSEWHERE}")
    if (owner := _owner(report)) not in (None, (task.name, task.profile)):
        raise RunError(f"{report} is for {' at '.join(owner)}; {ELSEWHERE}")
    known = read_json(report / STAMP).get("files")
    left = {name.split("/")[0] for name in known} if isinstance(known, dict) else set()
    found = sorted(path.name for path in report.iterdir()) if report.exists() else []
    if foreign := [name for name in found if name not in left.union(REPORT)]:
        raise RunError(f"{report} holds {foreign[0]}, which is no part of a report; {ELSEWHERE}")


def _owner(report: Path) -> tuple[str, str] | None:
    """Return the notebook and profile that a place is for, by where it is or by what it holds."""
    reports = files.root() / "reports"
    if report.resolve().is_relative_to(reports):
        profile, _, name = report.resolve().relative_to(reports).as_posix().partition("/")
        if profile in notebooks.PROFILES and name in notebooks.names("all"):
            return name, profile
    held = (read_json(report / name) for name in (STAMP, "metrics.json", "run.json"))
    told = ((about.get("notebook"), about.get("profile")) for about in held)
    return next(((str(name), str(profile)) for name, profile in told if name), None)


def is_committed(report: Path) -> bool:
    """Say whether git keeps files of a report."""
    try:
        return bool(files.git(files.root(), "ls-files", "--", str(report)))
    except (OSError, subprocess.SubprocessError):
        return False


def status() -> list[tuple[str, str, str, str]]:
    """List the reports: notebook, profile, date, and whether the code has moved on since."""
    rows = []
    for profile in (*notebooks.PROFILES, "local"):
        for name in notebooks.names("all"):
            report = files.root() / "reports" / profile / name
            if report.is_dir():
                made = DATE.match(str(read_json(report / "run.json").get("date")))
                state = "your own" if profile == "local" else _code_state(report, name)
                rows.append((name, profile, made[0] if made else "unknown", state))
    return rows


def _code_state(report: Path, name: str) -> str:
    """Say whether a report is of the present code: by its local stamp, else by its git commit."""
    if parts := read_json(report / STAMP).get("parts"):
        try:
            why = moved(parts, code(name))
        except notebooks.NotebookError:
            return "of unknown code"
        return f"older: {why}" if why else "current"
    git = read_json(report / "run.json").get("git")
    commit = str(git.get("commit")) if isinstance(git, dict) else ""
    if not COMMIT.fullmatch(commit):  # git would take some texts for options
        return "of unknown code"
    if git.get("dirty"):
        return "of code that was not committed"
    code_of = (f"notebooks/{name}.ipynb", "colorlib", ":(exclude)colorlib/batch")
    try:
        files.git(files.root(), "diff", "--quiet", "--end-of-options", commit, "--", *code_of)
    except (OSError, subprocess.SubprocessError) as error:
        changed = getattr(error, "returncode", None) == 1
        return "older: code changed since its commit" if changed else "of unknown code"
    return "current"
