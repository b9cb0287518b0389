"""Tasks: what to run, with everything that can be refused refused before anything runs."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colorlib import files, notebooks

READS = {"06": ("01", "02", "03", "04", "05")}  # notebooks that read other reports: they come late
NO_PATHS = ("profile", "device", "precision", "report_dir", "show")
ALONE = ("07",)  # measures speed: comes last, with nothing beside it


class RunError(Exception):
    """What keeps one notebook from being run or published; one line."""


@dataclass(frozen=True)
class Task:
    """One notebook to run, as plain data: it can be sent to another process or machine."""

    name: str
    profile: str
    parameters: dict[str, Any]  # all that differ from the notebook's own, without report_dir
    report: str
    cwd: str
    threads: int = 0

    @property
    def partial(self) -> Path:
        """The hidden neighbour of the report that a run is executed into."""
        return neighbour(Path(self.report), "partial")


def plan(
    names: Iterable[str] = (),
    profile: str = "laptop",
    parameters: dict[str, Any] | None = None,
    jobs: int = 1,
) -> list[Task]:
    """Check names, profile and parameters of all notebooks at once; return the tasks in order."""
    if profile not in notebooks.PROFILES:
        known = ", ".join(notebooks.PROFILES)
        raise notebooks.NotebookError(f"unknown profile '{profile}'; known: {known}")
    wanted = dict.fromkeys(map(notebooks.full_name, names)) or notebooks.names()
    if not wanted:
        raise notebooks.NotebookError(f"there is no notebook in {files.root() / 'notebooks'}")
    beside = Counter(turn(name)[0] for name in wanted)
    tasks, problems = [], []
    for name in wanted:
        try:
            group = turn(name)[0]
            sharing = at_once(group, min(jobs, beside[group]))
            tasks.append(make_task(name, profile, dict(parameters or {}), sharing))
        except notebooks.NotebookError as error:
            problems.append(str(error))
    if problems:
        raise notebooks.ParameterError("\n".join(problems))
    if len({task.report for task in tasks}) < len(tasks):
        raise notebooks.ParameterError("one report_dir cannot hold several notebooks")
    return sorted(tasks, key=lambda task: turn(task.name))


def make_task(name: str, profile: str, given: dict[str, Any], jobs: int) -> Task:
    known = notebooks.parameters(name)
    for key, value in given.items():
        if isinstance(value, str) and key in known:
            given[key] = notebooks.from_text(known[key], value)
    values = {**profile_parameters(name, profile), **given, "profile": profile}
    values = notebooks.check_values(name, {"report_dir": "", **values})
    chosen = values.pop("report_dir")
    report = os.path.expanduser(chosen) or files.root() / "reports" / profile / name
    return Task(name, profile, values, os.path.abspath(report), os.getcwd(), _share(jobs))


def profile_parameters(name: str, profile: str) -> dict[str, Any]:
    """Read `notebooks/params/PROFILE/NAME.yml`; {} where the notebook's own values hold."""
    import yaml

    file = files.root() / "notebooks" / "params" / profile / f"{name}.yml"
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise notebooks.ParameterError(f"{file}: {' '.join(str(error).split())}") from error
    if values is not None and not isinstance(values, dict):
        raise notebooks.ParameterError(f"{file}: must hold `name: value` lines")
    try:
        return notebooks.check_values(name, values or {})
    except notebooks.ParameterError as error:
        lines = str(error).replace(f"{name}: ", f"{file}: ")
        raise notebooks.ParameterError(lines) from None


def _share(jobs: int) -> int:
    """Return the threads of each of several processes; 0 leaves it to the notebook's own rule."""
    if jobs == 1 or os.environ.get("COLORLIB_THREADS"):
        return 0
    from colorlib import machine  # it imports torch

    return max(1, min(machine.physical_cores() // jobs, machine.MOST_THREADS))


def turn(name: str) -> tuple[int, str]:
    """Return when a notebook runs: the number of its group, then its name."""
    return (2 if name[:2] in ALONE else 1 if name[:2] in READS else 0, name)


def at_once(group: int, jobs: int) -> int:
    """Return how many notebooks of a group run side by side when `jobs` may."""
    return 1 if group == 2 else jobs


def named_paths(task: Task) -> dict[str, Path]:
    """Find the files, folders and glob patterns of files that the parameters name.

    Data sets known by name are none.
    """
    from colorlib import downloads

    values = {key: p.default for key, p in notebooks.parameters(task.name).items()}
    texts = []
    for key, value in {**values, **task.parameters}.items():
        if key in NO_PATHS:
            continue
        members = value if isinstance(value, list) else [value]
        texts += [part.strip() for m in members if isinstance(m, str) for part in m.split(",")]
    known = ("", "garden", "photos", *downloads.ARCHIVES)
    found = {}
    for text in (text for text in texts if text not in known):
        for place in (Path(task.cwd), files.data_root()):
            path = place / os.path.expanduser(text)
            if text not in found and (os.path.exists(path) or matches(path)):
                found[text] = path
    return found


def matches(path: Path) -> list[Path]:
    """List the files that a glob pattern matches, sorted; none when it is a plain name."""
    if os.path.exists(path) or not glob.has_magic(str(path)):
        return []
    return sorted(Path(n) for n in glob.glob(str(path), recursive=True) if os.path.isfile(n))


def reports_read(task: Task) -> list[Path]:
    """List the reports that a notebook may read: those of any profile, and what was played."""
    names = [name for name in notebooks.names() if name[:2] in READS[task.name[:2]]]
    folders = [files.root() / "reports" / kind for kind in (*notebooks.PROFILES, "local")]
    return [folder / name for folder in folders for name in names]


def neighbour(report: Path, kind: str) -> Path:
    return report.parent / f".{report.name}.{kind}"
