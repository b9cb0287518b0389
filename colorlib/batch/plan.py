"""What would run: strict parameters, the order, and what a run takes, before a file is touched."""

import glob
import graphlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from colorlib import files, notebooks

NO_PATHS = ("profile", "device", "precision", "report_dir", "show")
GUESSES = {"smoke": 30, "laptop": 180, "overnight": 5 * 3600, "paper": 8 * 3600}  # seconds


class RunError(Exception):
    """What keeps one notebook from being run or published; one line."""


class Task(NamedTuple):
    """One notebook to run, as plain data."""

    name: str
    profile: str
    parameters: dict[str, Any]  # all that differ from the notebook's own, without report_dir
    report: Path
    reads: tuple[str, ...] = ()  # the notebooks whose reports it reads: it comes after them
    variant: str = ""  # of a sweep, "rate-0.001/seed-3": what was given, and the seed

    @property
    def title(self) -> str:
        """Its name, in a sweep with what tells it from the others."""
        return f"{self.name} {self.variant}".strip()

    def beside(self, kind: str) -> Path:
        """Return a hidden neighbour of the report."""
        return self.report.with_name(f".{self.report.name}.{kind}")

    @property
    def partial(self) -> Path:
        """Where it is executed; other parameters have another, so no checkpoint is lost."""
        text = json.dumps([self.profile, self.parameters], sort_keys=True)
        return self.beside(f"{files.sha(text.encode())[:8]}.partial")


def plan(
    names: Iterable[str] = (),
    profile: str = "laptop",
    parameters: dict[str, Any] | None = None,
    kind: str = "lessons",
    vary: Mapping[str, Sequence[Any]] | None = None,
) -> list[list[Task]]:
    """Check all that was asked for at once; return the tasks in groups that run one by one.

    vary: of a sweep, values of some parameters, which are run each with each.
    """
    vary = vary or {}
    each = [dict(zip(vary, values, strict=True)) for values in itertools.product(*vary.values())]
    folder = "studies/" if kind == "studies" else ""
    wanted = [notebooks.full_name(folder + name.removeprefix(folder)) for name in names]
    tasks, problems = {}, []
    for name in wanted or notebooks.names(kind) or [notebooks.full_name("")]:
        try:
            given = [{**(parameters or {}), **varied} for varied in each]
            tasks[name] = [_task(name, profile, one, sweep=bool(vary)) for one in given]
        except notebooks.NotebookError as error:
            problems.append(str(error))
    every = [task for some in tasks.values() for task in some]
    if len({task.report for task in every}) < len(every):
        problems.append("one report_dir cannot hold several notebooks")
    if problems:
        raise notebooks.ParameterError("\n".join(problems))
    order = graphlib.TopologicalSorter({name: some[0].reads for name, some in tasks.items()})
    order.prepare()
    groups = []  # each after the notebooks whose reports it reads
    while order.is_active():
        ready = order.get_ready()
        order.done(*ready)
        groups.append([task for name in sorted(ready) for task in tasks.get(name, ())])
    return [group for group in groups if group]


def _task(name: str, profile: str, parameters: dict[str, Any], sweep: bool = False) -> Task:
    given, known = dict(parameters), notebooks.parameters(name)
    for key in given.keys() & known.keys():
        if isinstance(given[key], str):
            given[key] = notebooks.from_text(known[key], given[key])
    if given.get("profile", profile) != profile:
        raise notebooks.ParameterError(f"{name}: the profile is chosen with --profile, not with -p")
    values = {**notebooks.profile_parameters(name, profile), **given, "profile": profile}
    values = notebooks.check_values(name, {"report_dir": "", **values})
    chosen = os.path.expanduser(values.pop("report_dir"))
    for key, text in _texts(values):
        if "/" in text and not _found(text):
            missing = f"{key} = {text!r}: there is no such file or folder"
            raise notebooks.ParameterError(f"{name}: {missing}")
    own = {key: parameter.default for key, parameter in known.items()}
    variant = _variant(given, {"seed": "none", **own, **values}) if sweep else ""
    usual = files.root() / "reports" / ("seeds" if sweep else "") / profile / name
    report = Path(os.path.abspath(chosen or usual), variant)
    reads = tuple(map(notebooks.full_name, notebooks.about(name).get("reads", ())))
    return Task(name, profile, values, report, reads, variant)


def _variant(given: Iterable[str], values: dict[str, Any]) -> str:
    """Return the folders of one run of a sweep: what was given (or "default"), and its seed."""
    told = [f"{key}-{values[key]}" for key in given if key not in ("seed", "report_dir", "profile")]
    text = re.sub(r"[^\w.+,-]+", "_", ",".join(told)) or "default"
    text = text if len(text) < 100 else files.sha(text.encode())[:16]
    return f"{text}/seed-{values['seed']}"


def named_paths(task: Task) -> dict[str, Path]:
    """Find the paths and patterns that parameters name, by text; a download may come meanwhile."""
    from colorlib import downloads

    own = {key: parameter.default for key, parameter in notebooks.parameters(task.name).items()}
    texts = {text for _, text in _texts({**own, **task.parameters})} - {*downloads.ARCHIVES}
    return {text: path for text in sorted(texts) if (path := _found(text))}


def _texts(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Give every text that may name a path, the members of lists one by one."""
    for key, value in values.items():
        for member in value if isinstance(value, list) else [value]:
            if key not in NO_PATHS and isinstance(member, str):
                parts = [member] if "/" in member and _found(member) else member.split(",")
                yield from ((key, part.strip()) for part in parts if part.strip())


def _found(text: str) -> Path | None:
    """Return where a text leads, here or among the data (there also without the suffix)."""
    places = (Path.cwd(), files.data_root(), files.root() / "data")
    paths = [place / os.path.expanduser(text) for place in places]
    if "/" in text:
        paths += [Path(f"{glob.escape(str(path))}.*") for path in paths]
    return next((path for path in paths if matches(path)), None)


def matches(path: Path) -> list[Path]:
    """List what a path names: itself, or what fits a glob pattern."""
    found = [path] if os.path.exists(path) else glob.glob(str(path), recursive=True)
    return sorted(map(Path, found))


class Expectation(NamedTuple):
    seconds: float  # that a run takes
    source: str  # of the number
    measured: bool = True


def expectation(task: Task) -> Expectation:
    """Look up what the last run of this profile took, with the training of weights it was given."""
    for report in (task.report, files.root() / "reports" / task.profile / task.name):
        run = files.read_json(report / "run.json")
        seconds, date = run.get("wall_seconds"), str(run.get("date"))[:10]
        if isinstance(seconds, (int, float)) and 0 <= seconds < 1e9:  # NaN is not
            before = run.get("parameters", {}).get("weights") and sum(run["seconds"].values())
            return Expectation(seconds + (before or 0), f"as on {date}")
    return Expectation(GUESSES[task.profile], "a guess, never run yet", measured=False)
