"""What reports there are, and what a run would do and take."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from colorlib import files, notebooks
from colorlib.files import read_json
from colorlib.reproduce.stamps import STAMP, code, moved
from colorlib.reproduce.tasks import Task

EXPECTED = {  # seconds, MiB of memory, MiB on disk: for a notebook that has no report yet
    "smoke": (30, 1500, 50),
    "laptop": (180, 2500, 150),
    "evening": (2700, 6000, 600),
    "paper": (8 * 3600, 24000, 3000),
}


@dataclass(frozen=True)
class Expectation:
    """What a run takes: seconds, MiB of memory and on disk; a guess where nothing was measured."""

    seconds: float
    memory: float
    disk: float
    source: str
    measured: bool = True


def expectation(task: Task) -> Expectation:
    """Look up what the last run of this profile took, here or where the report was made."""
    report = Path(task.report)
    committed = files.root() / "reports" / task.profile / task.name
    for folder in (report, committed):
        recorded, stamp = read_json(folder / "run.json"), read_json(folder / STAMP)
        parts = [v for v in recorded.get("seconds", {}).values() if isinstance(v, (int, float))]
        seconds = recorded.get("wall_seconds") or max(parts, default=0)
        seconds = stamp.get("seconds") or seconds
        if seconds:
            memory = max(recorded.get("memory_mib", {}).values(), default=0)
            size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 2**20
            date = str(recorded.get("date") or stamp.get("finished") or "")[:10]
            return Expectation(seconds, memory, size, f"as on {date or 'an earlier day'}")
    return Expectation(*EXPECTED[task.profile], "a guess, never run yet", measured=False)


def status() -> list[tuple[str, str, str, str, str]]:
    """List the reports: notebook, profile, date, age, and whether the code has moved on since."""
    rows = []
    for profile in (*notebooks.PROFILES, "local"):
        for name in notebooks.names():
            report = files.root() / "reports" / profile / name
            if report.is_dir():
                date, age = _age(report)
                state = "your own" if profile == "local" else _code_state(report, name)
                rows.append((name, profile, date, age, state))
    return rows


def _age(report: Path) -> tuple[str, str]:
    """Return the date of a report and how long ago that is."""
    now = datetime.now(timezone.utc)
    try:
        made = datetime.fromisoformat(read_json(report / "run.json")["date"].replace("Z", "+00:00"))
        made = made if made.tzinfo else made.replace(tzinfo=timezone.utc)
    except (KeyError, ValueError, AttributeError):
        made = datetime.fromtimestamp(report.stat().st_mtime, timezone.utc)
    days = (now - made).days
    age = "today" if days < 1 else "a day" if days == 1 else f"{days} days"
    return f"{made:%Y-%m-%d}", age


def _code_state(report: Path, name: str) -> str:
    """Say whether a report is of the present code: by its local stamp, else by its git commit."""
    if parts := read_json(report / STAMP).get("parts"):
        try:
            why = moved(parts, code(name))
        except notebooks.NotebookError:
            return "of unknown code"
        return f"older: {why}" if why else "current"
    git = read_json(report / "run.json").get("git", {})
    if git.get("dirty"):
        return "of code that was not committed"
    commit = git.get("commit", "none")
    since = ("diff", "--quiet", commit, "--", f"notebooks/{name}.ipynb", "colorlib")
    try:
        files.git(files.root(), *since)
    except (OSError, subprocess.SubprocessError) as error:
        changed = getattr(error, "returncode", None) == 1
        return "older: code changed since its commit" if changed else "of unknown code"
    return "current"
