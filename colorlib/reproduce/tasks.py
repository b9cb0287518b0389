"""Tasks: what to run, with everything that can be refused refused before anything runs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colorlib import files, notebooks

READS = {"06": ("01", "02", "03", "04", "05")}  # notebooks that read other reports: they come late
NO_PATHS = ("profile", "device", "precision", "report_dir")
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
    jobs = min(jobs, len(wanted))
    tasks, problems = [], []
    for name in wanted:
        try:
            tasks.append(make_task(name, profile, dict(parameters or {}), jobs))
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
    values = notebooks.check_types(name, {"report_dir": "", **values})
    chosen = values.pop("report_dir")
    report = Path(chosen).expanduser() if chosen else files.root() / "reports" / profile / name
    return Task(name, profile, values, str(report.absolute()), os.getcwd(), _share(jobs))


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
        return notebooks.check_types(name, values or {})
    except notebooks.ParameterError as error:
        lines = str(error).replace(f"{name}: ", f"{file}: ")
        raise notebooks.ParameterError(lines) from None


def _share(jobs: int) -> int:
    """Return the threads of each of several processes; 0 leaves it to the notebook's own rule."""
    from colorlib import machine

    if jobs == 1 or os.environ.get("COLORLIB_THREADS"):
        return 0
    return max(1, min(machine.physical_cores() // jobs, machine.MOST_THREADS))


def turn(name: str) -> tuple[int, str]:
    return (2 if name[:2] in ALONE else 1 if name[:2] in READS else 0, name)


def named_paths(task: Task) -> dict[str, Path]:
    """Find the files and folders that the parameters name; data sets known by name are none."""
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
            path = place / Path(text).expanduser()
            if text not in found and os.path.exists(path):  # False also for what no path can be
                found[text] = path
    return found


def reports_read(task: Task) -> list[Path]:
    folder = files.root() / "reports" / task.profile
    return [folder / name for name in notebooks.names() if name[:2] in READS[task.name[:2]]]


def neighbour(report: Path, kind: str) -> Path:
    return report.parent / f".{report.name}.{kind}"
