"""What stands on disk: is a report whole and unchanged, whose is it, and who is writing it?"""

import contextlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

import colorlib
from colorlib import files, notebooks
from colorlib.batch import plan
from colorlib.batch.plan import RunError, Task

STAMP = ".stamp.json"
REPORT = {"notebook.ipynb", "index.html", "metrics.json", "run.json", "figures", "weights"}
REPORT |= {"checkpoints", STAMP, ".ipynb_checkpoints", ".DS_Store"}  # the last: of who reads it
KEPT = 4  # unfinished runs of a report, each of other parameters
DATE, COMMIT = re.compile(r"\d{4}-\d\d-\d\d"), re.compile(r"[0-9a-f]{7,40}")
ELSEWHERE = "choose another place with -p report_dir FOLDER"


def stamp(task: Task) -> dict[str, str]:
    """Digest everything a run depends on; the keys name the parts."""
    names = {task.name, Path(task.name).name} & {*notebooks.names("all")}  # studies, their lesson
    cells = [cell for name in sorted(names) for cell in notebooks.cells(notebooks.path(name))]
    helpers = sorted(Path(colorlib.__file__).parent.glob("*.py"))  # not what runs notebooks
    kinds = (*notebooks.PROFILES, "local")
    read = [files.root() / "reports" / kind / name for kind in kinds for name in task.reads]
    parts = {
        "notebook": [[cell["cell_type"], cell["source"], cell["tags"]] for cell in cells],
        "colorlib": [[helper.name, files.sha(helper)] for helper in helpers],
        "parameters": task.parameters,
        "data": [_listing(path) for path in plan.named_paths(task).values()],
        "the reports it reads": [_listing(report) for report in read],
    }
    return {k: files.sha(json.dumps(part, sort_keys=True).encode()) for k, part in parts.items()}


def _listing(path: Path) -> list[list[Any]]:
    """List name, size and time of change of a file, or of all files of a folder or pattern."""
    found = path.rglob("*") if path.is_dir() else plan.matches(path)
    return [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in sorted(found) if p.is_file()]


def changes(report: Path, current: dict[str, str]) -> str | None:
    """Say why a report must be made (again); None when this checkout finished this very run."""
    if not report.exists():
        return "new"
    old = read_stamp(report)
    if "finished" not in old:
        return "not run by this checkout"
    for name, digest in old["files"].items():
        if not (report / name).is_file():
            return f"{name} is lost"
        if files.sha(report / name) != digest:
            return f"{name} was changed"
    changed = [key for key, digest in current.items() if old["parts"].get(key) != digest]
    return f"{' and '.join(changed)} changed" if changed else None


def read_stamp(report: Path) -> dict[str, Any]:
    """Read what this checkout says of a report; nothing where that is not of its form."""
    told = {"files": {}, "parts": {}, **files.read_json(report / STAMP)}
    return told if isinstance(told["files"], dict) and isinstance(told["parts"], dict) else {}


def prepare(task: Task, current: dict[str, str]) -> None:
    """Make the partial place: empty but for this very work's checkpoints and frames, if killed."""
    task.partial.mkdir(parents=True, exist_ok=True)
    for path in [*task.partial.rglob("*")]:
        kept = ".checkpoint" in path.name or "frames" in path.relative_to(task.partial).parts
        if path.is_file() and not kept:
            path.unlink()
    owner = {"notebook": task.name, "profile": task.profile}
    files.write_json(task.partial / STAMP, {**owner, "parts": current})
    unfinished = task.report.parent.glob(task.beside("*.partial").name)
    for old in sorted(unfinished, key=lambda path: path.stat().st_mtime_ns)[:-KEPT]:
        shutil.rmtree(old)


def seal(task: Task) -> None:
    """Write into a whole run that it ended, and what its files are."""
    found = [p for p in sorted(task.partial.rglob("*")) if p.is_file() and p.name != STAMP]
    whole = [path for path in found if ".checkpoint" not in path.name]
    digests = {path.relative_to(task.partial).as_posix(): files.sha(path) for path in whole}
    files.sync(task.partial)
    ended = {"finished": time.strftime("%Y-%m-%d %H:%M"), "files": digests}
    files.write_json(task.partial / STAMP, {**files.read_json(task.partial / STAMP), **ended})


def publish(task: Task) -> None:
    """Rename a sealed run to its report; the one before it stays until the new one stands."""
    refuse_foreign(task)
    for checkpoint in [*task.partial.rglob("*.checkpoint*")]:
        checkpoint.unlink()  # what was trained stands in weights/
    if task.report.exists():
        task.report.rename(task.beside("old"))  # what was there, `recover` has taken away
    task.partial.rename(task.report)
    shutil.rmtree(task.beside("old"), ignore_errors=True)


def recover(task: Task) -> None:
    """Finish what a killed runner left between two renames."""
    old = task.beside("old")
    if "finished" in files.read_json(task.partial / STAMP):
        publish(task)
    elif old.exists() and not task.report.exists():
        old.rename(task.report)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def lock(task: Task) -> Iterator[None]:
    """Hold a report, mended; another living runner is refused, a dead one's hold died with it."""
    file = task.beside("lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(file, timeout=0):
            try:
                recover(task)
                yield
            finally:
                file.unlink(missing_ok=True)
    except filelock.Timeout:
        raise RunError(f"another run is writing {task.report}; wait for it, or stop it") from None


def refuse_foreign(task: Task) -> None:
    """Refuse a place that holds anything but a report of this notebook and profile."""
    report = task.report
    if report.is_symlink() or (report.exists() and not report.is_dir()):
        raise RunError(f"{report} is a link or a file, not a folder; {ELSEWHERE}")
    for name in (STAMP, "metrics.json", "run.json"):
        held = files.read_json(report / name)
        owner = held.get("notebook"), held.get("profile")
        if owner[0] and owner != (task.name, task.profile):
            raise RunError(f"{report} is for {owner[0]} at {owner[1]}; {ELSEWHERE}")
    own = {name.split("/")[0] for name in read_stamp(report).get("files", ())} | REPORT
    if foreign := sorted({path.name for path in report.glob("*")} - own):
        raise RunError(f"{report} holds {foreign[0]}, which is no part of a report; {ELSEWHERE}")


def status() -> list[tuple[str, str, str, str]]:
    """List the reports: notebook, profile, date, and whether the code has moved on since."""
    rows = []
    for profile in (*notebooks.PROFILES, "local"):
        for name in notebooks.names("all"):
            report = files.root() / "reports" / profile / name
            if report.is_dir():
                made = DATE.match(str(files.read_json(report / "run.json").get("date")))
                state = "your own" if profile == "local" else _code_state(report, name)
                rows.append((name, profile, made[0] if made else "unknown", state))
    return rows


def _code_state(report: Path, name: str) -> str:
    """Say whether the code of a report, which its git commit tells, is the present one."""
    git = files.read_json(report / "run.json").get("git")
    commit = str(git.get("commit")) if isinstance(git, dict) else ""
    if not COMMIT.fullmatch(commit):  # git would take some texts for options
        return "of unknown code"
    if git.get("dirty"):
        return "of code that was not committed"
    code_of = [f"notebooks/{n}.ipynb" for n in {name, Path(name).name}]  # its lesson's too
    code_of += ["colorlib", ":(exclude)colorlib/batch"]
    options = ("--name-only", "--end-of-options", commit)
    changed = files.git(files.root(), "diff", *options, "--", *code_of)
    if changed is None:
        return "of unknown code"
    return "older: code changed since its commit" if changed else "current"
