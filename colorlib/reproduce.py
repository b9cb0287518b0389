"""The batch runner: each notebook in a process of its own, strict, resumable, whole or not at all.

A run is executed into `reports/PROFILE/.NAME.partial/` and renamed to `reports/PROFILE/NAME/` when
it is whole. The runner plans, watches and publishes; a worker (`python -m colorlib.reproduce`)
executes one notebook through papermill. A worker's standard input is its lifeline: when the runner
dies, however it dies, the worker ends its kernel and itself.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from colorlib import files, notebooks

READS = {"06": ("01", "02", "03", "04", "05")}  # notebooks that read other reports: they come late
ALONE = ("07",)  # measures speed: comes last, with nothing beside it
OUTSIDE = ("__main__", "cli", "colorizing", "compare", "pages", "reproduce")  # no notebook's result
EXPECTED = {  # seconds, MiB of memory, MiB on disk: for a notebook that has no report yet
    "smoke": (20, 1500, 50),
    "laptop": (180, 2500, 150),
    "evening": (2700, 6000, 600),
    "paper": (8 * 3600, 24000, 3000),
}
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
STAMP = ".stamp.json"
PROGRESS = ".progress.json"
EVENT = "\x1e"  # begins the worker's own lines; anything else on its output is noise of libraries


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
        return _neighbour(Path(self.report), "partial")


@dataclass
class Outcome:
    """What became of one notebook."""

    name: str
    state: str  # finished, skipped, failed, refused, interrupted, would run
    seconds: float = 0.0
    note: str = ""
    report: str = ""

    @property
    def good(self) -> bool:
        """True unless something is left to mend or to run."""
        return self.state in ("finished", "skipped", "would run")


# --- planning: everything that can be refused is refused before anything runs --------------------


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
            tasks.append(_task(name, profile, dict(parameters or {}), jobs))
        except notebooks.NotebookError as error:
            problems.append(str(error))
    if problems:
        raise notebooks.ParameterError("\n".join(problems))
    if len({task.report for task in tasks}) < len(tasks):
        raise notebooks.ParameterError("one report_dir cannot hold several notebooks")
    return sorted(tasks, key=lambda task: _turn(task.name))


def _task(name: str, profile: str, given: dict[str, Any], jobs: int) -> Task:
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
    """Return the threads of each of several processes; 0, the notebook's own rule, for one."""
    from colorlib import machine

    if jobs == 1:
        return 0
    return max(1, min(machine.physical_cores() // jobs, machine.MOST_THREADS))


def _turn(name: str) -> tuple[int, str]:
    return (2 if name[:2] in ALONE else 1 if name[:2] in READS else 0, name)


# --- what is there: stamps, partial places, locks ------------------------------------------------


def stamp(task: Task) -> dict[str, str]:
    """Digest everything a run depends on; the keys name the parts."""
    cells = notebooks.cells(notebooks.path(task.name))
    source = [[cell["cell_type"], cell["source"], cell["tags"]] for cell in cells]
    parts = {
        "notebook": source,
        "parameters": task.parameters,
        "data": [_listing(path) for path in _named_paths(task).values()],
        "colorlib": [[path.name, files.sha(path)] for path in _modules()],
    }
    if task.name[:2] in READS:
        parts["the reports it reads"] = [_metrics_digest(p) for p in _reports_read(task)]
    return {key: files.sha(json.dumps(part).encode()) for key, part in parts.items()}


def _modules() -> list[Path]:
    """List the modules that a notebook's result can depend on."""
    package = Path(__file__).parent
    return [path for path in sorted(package.rglob("*.py")) if path.stem not in OUTSIDE]


def _named_paths(task: Task) -> dict[str, Path]:
    """Find the files and folders that the parameters name; data sets known by name are none."""
    from colorlib import downloads

    values = {key: p.default for key, p in notebooks.parameters(task.name).items()}
    values = {**values, **task.parameters, "report_dir": ""}
    texts = []
    for value in values.values():
        members = value if isinstance(value, list) else [value]
        texts += [part.strip() for m in members if isinstance(m, str) for part in m.split(",")]
    known = ("", "garden", "photos", *downloads.ARCHIVES)
    found = {}
    for text in (text for text in texts if text not in known):
        for place in (Path(task.cwd), files.data_root()):
            path = place / Path(text).expanduser()
            if text not in found and path.exists():
                found[text] = path
    return found


def _listing(path: Path) -> list[list[Any]]:
    """List name, size and time of change of a file, or of all files of a folder."""
    found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in found]


def _reports_read(task: Task) -> list[Path]:
    folder = files.root() / "reports" / task.profile
    return [folder / name for name in notebooks.names() if name[:2] in READS[task.name[:2]]]


def _metrics_digest(report: Path) -> str:
    file = report / "metrics.json"
    return files.sha(file) if file.exists() else ""


def changes(report: Path, current: dict[str, str]) -> str | None:
    """Say why a report must be made (again); None when this checkout finished this very run."""
    if not report.exists():
        return "new"
    old = _read_json(report / STAMP)
    if not old.get("finished"):
        return "not run by this checkout"
    if old.get("executed") != _executed_digest(report):
        return "the report was changed"
    parts = old.get("parts", {})
    changed = [key for key, digest in current.items() if parts.get(key) != digest]
    return f"{' and '.join(changed)} changed" if changed else None


def _executed_digest(report: Path) -> str:
    file = report / "notebook.ipynb"
    return files.sha(file) if file.exists() else ""


def _read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object; {} when the file is missing or damaged."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _neighbour(report: Path, kind: str) -> Path:
    return report.parent / f".{report.name}.{kind}"


def _prepare(task: Task, current: dict[str, str]) -> None:
    """Make the partial place: empty but for the checkpoints of this very run, if it was killed."""
    partial = task.partial
    if _read_json(partial / STAMP).get("parts") != current:
        _remove(partial)
    for path in sorted(partial.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):  # not empty: it holds a checkpoint
                path.rmdir()
        elif ".checkpoint" not in path.name:
            path.unlink()
    partial.mkdir(parents=True, exist_ok=True)
    files.write_json(partial / STAMP, {"parts": current})


def publish(partial: Path, report: Path) -> None:
    """Rename a whole run to its report; the one before it stays until the new one stands."""
    old = _neighbour(report, "old")
    if report.exists():
        _remove(old)
        report.rename(old)
    partial.rename(report)
    _remove(old)


def recover(report: Path) -> None:
    """Finish what a killed runner left between two renames."""
    partial, old = _neighbour(report, "partial"), _neighbour(report, "old")
    if _read_json(partial / STAMP).get("finished"):
        publish(partial, report)
    elif old.exists() and not report.exists():
        old.rename(report)
    _remove(old)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


@contextlib.contextmanager
def lock(report: Path) -> Iterator[None]:
    """Hold a report folder: another living runner is refused, a dead one's lock is taken over."""
    file = _neighbour(report, "lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    while not _create(file, json.dumps({"pid": os.getpid(), "started": _started(os.getpid())})):
        holder = _read_json(file)
        pid = holder.get("pid")
        if _started(pid) and abs(_started(pid) - holder.get("started", 0)) < 1:
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
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
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
        if _read_json(aside) != holder:
            _create(file, aside.read_text())
        aside.unlink()


def _started(pid: Any) -> float:
    """Return when a process started, 0 when there is none: a number used again is not the same."""
    import psutil

    try:
        return psutil.Process(pid).create_time() if isinstance(pid, int) else 0.0
    except (psutil.Error, ValueError):
        return 0.0


# --- running ------------------------------------------------------------------------------------


@dataclass
class Running:
    """One task under way: its process and how far it is."""

    task: Task
    expected: float = 0.0
    began: float = 0.0
    cell: int = 0
    cells: int = 0
    heading: str = ""
    process: subprocess.Popen | None = None
    stopped: bool = False
    problem: dict[str, str] = field(default_factory=dict)
    noise: deque = field(default_factory=lambda: deque(maxlen=30))

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began if self.began else 0.0

    def execute(self) -> None:
        """Run the worker to its end; raise RunError with the reason when it fails."""
        package = str(Path(__file__).parents[1])
        search = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": search}
        environment["COLORLIB_PROGRESS"] = str(self.task.partial / PROGRESS)
        if self.task.threads:
            environment["COLORLIB_THREADS"] = str(self.task.threads)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "colorlib.reproduce", json.dumps(asdict(self.task))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.task.cwd,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the runner alone, which then ends its workers
        )
        with self.process:
            if self.stopped:
                self.stop()
            for line in self.process.stdout:
                self._hear(line.decode(errors="replace"))
        if self.problem or self.process.returncode:
            raise RunError(self._reason())

    def _hear(self, line: str) -> None:
        noise, _, event = line.rstrip().partition(EVENT)
        if noise:
            self.noise.append(noise)
        if event:
            state = json.loads(event)
            self.problem = state.pop("problem", self.problem)
            for key, value in state.items():
                setattr(self, key, value)

    def _reason(self) -> str:
        if self.problem:
            return one_line(self.problem, self.heading)
        code = self.process.returncode
        last = self.noise[-1] if self.noise else "it said nothing"
        if code < 0:
            return f"{self._where()}the worker was killed by signal {-code} (out of memory?)"
        return f"{self._where()}the worker ended with status {code}: {last}"

    def _where(self) -> str:
        return f"in '{self.heading}': " if self.heading else ""

    def stop(self) -> None:
        """Let go of the lifeline: the worker ends its kernel and itself."""
        self.stopped = True
        if self.process and self.process.stdin:
            with contextlib.suppress(OSError):
                self.process.stdin.close()

    def training(self) -> dict[str, Any]:
        """Return what the training at work says of itself, {} when there is none."""
        state = _read_json(self.task.partial / PROGRESS)
        return state if state.get("total") and state.get("done", 0) < state["total"] else {}

    def progress(self) -> tuple[float, str]:
        """Return the fraction done, by cells, and one line of words with an estimate."""
        training = self.training()
        share = training["done"] / training["total"] if training else 0.0
        words, left = f"{self.heading or 'starting'}, cell {self.cell}/{self.cells}", 0.0
        if training:
            words += f", {training['label']} {training['done']}/{training['total']}"
            if training["done"]:
                left = training["seconds"] * (1 / share - 1)
        words += f", {duration(self.seconds)}"
        if self.expected:
            words += f", about {duration(max(left, self.expected - self.seconds, 1))} left"
        elif left:
            words += f", this training {duration(left)} more"
        return (max(0, self.cell - 1) + share) / max(1, self.cells), words


def one_line(problem: dict[str, str], heading: str = "") -> str:
    """Say in one line what went wrong in a worker, and how to mend it where that is known."""
    kind, text = problem["kind"], " ".join(problem["text"].split())
    where = f"in '{heading}': " if heading else ""
    if kind == "DeadKernelError":
        return f"{where}the kernel died (out of memory?); try a smaller batch or fewer --jobs"
    if kind == "NoSuchKernel":
        return (
            "there is no Jupyter kernel 'python3'; mend: python -m ipykernel install --sys-prefix"
        )
    if "Errno 28" in text or "No space left" in text:
        return f"{where}the disk is full; free some space and run again: it continues"
    if "Errno 30" in text or "Read-only file system" in text:
        return f"{where}{text}; choose a place that can be written with -p report_dir FOLDER"
    return f"{where}{kind}: {text}"


def run(
    names: Iterable[str] = (),
    profile: str = "laptop",
    parameters: dict[str, Any] | None = None,
    jobs: int = 1,
    force: bool = False,
    dry_run: bool = False,
) -> list[Outcome]:
    """Run notebooks (all when none is named) and publish their reports.

    Args:
        parameters: values for every notebook named, over those of the profile; strictly checked.
        jobs: processes at a time; the threads of the machine are divided among them.
        force: run also what is unchanged.
        dry_run: only say what would run and what it would take.
    """
    tasks = plan(names, profile, parameters, jobs)
    if dry_run:
        return [_foretell(task, force) for task in tasks]
    runnings = [Running(task, expectation(task)["seconds"]) for task in tasks]
    board = Board(runnings)
    outcomes: list[Outcome] = []
    try:
        for turn in (0, 1, 2):
            group = [running for running in runnings if _turn(running.task.name)[0] == turn]
            outcomes += _run_group(group, jobs, force, board)
    finally:
        board.close()
    return outcomes


def _run_group(group: list[Running], jobs: int, force: bool, board: Board) -> list[Outcome]:
    """Run notebooks that do not wait for each other, `jobs` at a time."""
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        futures = [pool.submit(_attend, running, force, board) for running in group]
        try:
            while wait(futures, timeout=0.25).not_done:
                board.draw()
        except KeyboardInterrupt:
            for running in board.runnings:
                running.stop()
            wait(futures)
        return [future.result() for future in futures]


def _attend(running: Running, force: bool, board: Board) -> Outcome:
    """See one task through, from its lock to its report; problems become a line of the table."""
    task, report = running.task, Path(running.task.report)
    outcome = Outcome(task.name, "interrupted", report=task.report)
    if running.stopped:
        return outcome
    try:
        with lock(report):
            outcome = _make(running, force, board)
    except RunError as error:
        outcome.state, outcome.note = "failed" if running.began else "refused", str(error)
    except OSError as error:
        outcome.state, outcome.note = "failed", disk_problem(error, report)
    except Exception as error:  # whatever it is, the other notebooks go on
        outcome.state = "failed"
        outcome.note = one_line({"kind": type(error).__name__, "text": str(error)})
    if running.stopped and not outcome.good:
        outcome.state, outcome.note = "interrupted", "run again to continue where it stopped"
    outcome.seconds = running.seconds
    running.began = 0.0
    board.end(outcome)
    return outcome


def _make(running: Running, force: bool, board: Board) -> Outcome:
    """Skip, or execute, check and publish one task, under its lock."""
    task, report = running.task, Path(running.task.report)
    recover(report)
    current = stamp(task)
    why = changes(report, current)
    if why is None and not force:
        finished = _read_json(report / STAMP)["finished"]
        note = f"unchanged since {finished}; --force runs it again"
        return Outcome(task.name, "skipped", note=note, report=task.report)
    _prepare(task, current)
    running.began = time.monotonic()
    board.start(running, why or "forced")
    running.execute()
    _finish(task, running.seconds)
    finished = {"finished": time.strftime("%Y-%m-%d %H:%M"), "seconds": round(running.seconds, 1)}
    executed = {"executed": _executed_digest(task.partial)}
    files.write_json(task.partial / STAMP, {"parts": current, **finished, **executed})
    publish(task.partial, report)
    for checkpoint in report.rglob("*.checkpoint*"):
        checkpoint.unlink()  # the trained weights stand in weights/
        with contextlib.suppress(OSError):  # not empty
            checkpoint.parent.rmdir()
    return Outcome(task.name, "finished", note=headline(report), report=task.report)


def _finish(task: Task, seconds: float) -> None:
    """Make an executed notebook a report: neutral paths, checked numbers, a page."""
    from colorlib import pages, record

    places = neutral_places(task)
    partial = task.partial
    (partial / PROGRESS).unlink(missing_ok=True)
    scrub_notebook(partial / "notebook.ipynb", places, task)
    metrics, run = partial / "metrics.json", partial / "run.json"
    if run.exists():
        files.write_json(run, {**scrub(_read_json(run), places), "wall_seconds": round(seconds, 1)})
    try:
        if metrics.exists():
            content = scrub(_read_json(metrics), places)
            record.check_metrics(content)
            files.write_json(metrics, content)
        elif _records(task):
            raise RunError("every cell ran, but there is no metrics.json; did a cell call exit()?")
        pages.render(partial)
    except (record.RecordError, pages.PageError) as error:
        problems = str(error).split("; ")
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise RunError("; ".join(problems[:3]) + more) from error


def _records(task: Task) -> bool:
    cells = notebooks.cells(notebooks.path(task.name))
    return any("record.write(" in c["source"] for c in cells if c["cell_type"] == "code")


def disk_problem(error: OSError, report: Path) -> str:
    """Say in one line what keeps a report from being written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {report} is full; free some space and run again: it continues"
    other = "choose another place with -p report_dir FOLDER"
    return f"{error.filename or report} cannot be written ({error.strerror}); {other}"


# --- neutral paths ------------------------------------------------------------------------------


def neutral_places(task: Task) -> dict[str, str]:
    """Map this machine's folders to names that mean the same everywhere, longest first."""
    report = Path(task.report)
    root = files.root()
    name = str(report.relative_to(root)) if report.is_relative_to(root) else "REPORT_DIR"
    places = {
        Path(task.cwd): "CURRENT_DIR",
        Path(sys.prefix): "PYTHON",
        Path(tempfile.gettempdir()): "TMP",
        Path.home(): "HOME",
        files.data_root(): "data",
        root: "PROJECT",
        report: name,
        task.partial: name,
    }
    named = _named_paths(task)
    places = {path: path.name for path in named.values()} | places
    both = {str(form): to for path, to in places.items() for form in (path, path.resolve())}
    both |= {text: path.name for text, path in named.items() if os.sep in text}
    return {path: both[path] for path in sorted(both, key=len, reverse=True) if len(path) > 1}


def scrub(value: Any, places: dict[str, str]) -> Any:
    """Replace folders of this machine in every string of a JSON value, pictures excepted."""
    if isinstance(value, str):
        for path, name in places.items():
            if path in value:
                value = re.sub(rf"(?<![\w.-]){re.escape(path)}(?![\w-])", name, value)
        return re.sub(r"TMP/ipykernel_\d+/\d+\.py", "cell", value)
    if isinstance(value, list):
        return [scrub(item, places) for item in value]
    if isinstance(value, dict):
        return {
            key: item
            if key.startswith("image/") and key != "image/svg+xml"
            else scrub(item, places)
            for key, item in value.items()
        }
    return value


def scrub_notebook(file: Path, places: dict[str, str], task: Task) -> None:
    """Take the machine out of an executed notebook: paths, times, and where it was written to.

    The injected report_dir becomes "", so that a reader who runs this copy overwrites no report.
    """
    notebook = scrub(json.loads(file.read_text(encoding="utf-8")), places)
    about = notebook["metadata"].get("papermill", {})
    given = {**about.get("parameters", {}), "report_dir": ""}
    notebook["metadata"]["papermill"] = {"parameters": given, "version": about.get("version")}
    notebook["metadata"].setdefault("kernelspec", KERNEL)
    written = re.compile(r"^report_dir = .*$", re.MULTILINE)
    for cell in notebook["cells"]:
        for key in ("papermill", "execution"):
            cell["metadata"].pop(key, None)
        if "injected-parameters" in cell["metadata"].get("tags", []):
            source = written.sub('report_dir = ""', "".join(cell["source"]))
            cell.update(id="injected-parameters", source=source.splitlines(keepends=True))
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True)
    files.write_atomic(file, text + "\n")


# --- what to say --------------------------------------------------------------------------------


def headline(report: Path) -> str:
    """Return the headline metric of a report: the main row's gain over grey, beside the paper's."""
    from colorlib import pages

    return pages.headline(_read_json(report / "metrics.json"))


def expectation(task: Task) -> dict[str, Any]:
    """Return seconds, memory and disk (MiB) to expect, and where the numbers come from."""
    report = Path(task.report)
    committed = files.root() / "reports" / task.profile / task.name
    for folder in (report, committed):
        recorded = _read_json(folder / "run.json")
        parts = [v for v in recorded.get("seconds", {}).values() if isinstance(v, (int, float))]
        seconds = recorded.get("wall_seconds") or max(parts, default=0)
        seconds = _read_json(folder / STAMP).get("seconds") or seconds
        if seconds:
            memory = max(recorded.get("memory_mib", {}).values(), default=0)
            size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 2**20
            source = f"as on {str(recorded.get('date', 'an earlier day'))[:10]}"
            return {"seconds": seconds, "memory": memory, "disk": size, "source": source}
    seconds, memory, disk = EXPECTED[task.profile]
    return {"seconds": seconds, "memory": memory, "disk": disk, "source": "a guess, never run yet"}


def _foretell(task: Task, force: bool) -> Outcome:
    """Say what a run would do and take."""
    why = changes(Path(task.report), stamp(task))
    if why is None and not force:
        return Outcome(task.name, "skipped", note="unchanged", report=task.report)
    expected = expectation(task)
    memory = f"{expected['memory'] / 1024:.1f} GiB of memory, " if expected["memory"] else ""
    note = f"{why or 'forced'}; {memory}{expected['disk']:.0f} MiB on disk ({expected['source']})"
    return Outcome(task.name, "would run", expected["seconds"], note, task.report)


def status() -> list[tuple[str, str, str, str, str]]:
    """List the reports: notebook, profile, date, age, and whether the code has moved on since."""
    rows = []
    for profile in (*notebooks.PROFILES, "local"):
        for name in notebooks.names():
            report = files.root() / "reports" / profile / name
            if report.is_dir():
                date, age = _age(report)
                state = "your own" if profile == "local" else _code_state(report, name, profile)
                rows.append((name, profile, date, age, state))
    return rows


def _age(report: Path) -> tuple[str, str]:
    """Return the date of a report and how long ago that is."""
    from datetime import datetime, timezone

    now = datetime.now(timezone.utc)
    try:
        made = datetime.fromisoformat(
            _read_json(report / "run.json")["date"].replace("Z", "+00:00")
        )
        made = made if made.tzinfo else made.replace(tzinfo=timezone.utc)
    except (KeyError, ValueError, AttributeError):
        made = datetime.fromtimestamp(report.stat().st_mtime, timezone.utc)
    days = (now - made).days
    age = "today" if days < 1 else "a day" if days == 1 else f"{days} days"
    return f"{made:%Y-%m-%d}", age


def _code_state(report: Path, name: str, profile: str) -> str:
    """Say whether a report is of the present code: by its local stamp, else by its git commit."""
    if (report / STAMP).exists():
        why = changes(report, stamp(_task(name, profile, {}, 1)))
        return f"older: {why}" if why else "current"
    git = _read_json(report / "run.json").get("git", {})
    if git.get("dirty"):
        return "of code that was not committed"
    commit = git.get("commit", "none")
    since = ["git", "diff", "--quiet", commit, "--", f"notebooks/{name}.ipynb", "colorlib"]
    try:
        code = subprocess.run(since, cwd=files.root(), capture_output=True).returncode
    except OSError:
        code = -1
    return {0: "current", 1: "older: code changed since its commit"}.get(code, "of unknown code")


def duration(seconds: float) -> str:
    """Write a time as a person says it: 8 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def table(outcomes: list[Outcome]) -> str:
    """Lay the outcomes out as text: notebook, state, time, headline or reason."""
    rows = [("notebook", "state", "time", "")]
    rows += [(o.name, o.state, duration(o.seconds) if o.seconds else "-", o.note) for o in outcomes]
    total = sum(outcome.seconds for outcome in outcomes)
    bad = sum(not outcome.good for outcome in outcomes)
    last = f"{len(outcomes)} notebooks, {bad} not done, {duration(total)} in all"
    return f"{columns(rows)}\n{last}"


def columns(rows: list[tuple[str, ...]]) -> str:
    """Lay rows of text out in columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)] + [0]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


class Board:
    """Live bars on a terminal; elsewhere a line now and then, so that a log says what goes on."""

    EVERY = 20.0  # seconds between two lines of one notebook

    def __init__(self, runnings: list[Running]) -> None:
        self.runnings = runnings
        self.live = sys.stderr.isatty()
        self.bars: dict[str, Any] = {}
        self.said: dict[str, float] = {}
        self.guard = threading.RLock()

    def start(self, running: Running, why: str) -> None:
        """Say that a notebook starts, and why."""
        left = f", about {duration(running.expected)}" if running.expected else ""
        self.say(f"{running.task.name}: starts ({why}{left})")
        self.said[running.task.name] = time.monotonic()

    def draw(self) -> None:
        """Show how far each running notebook is."""
        for running in [r for r in self.runnings if r.began]:
            fraction, words = running.progress()
            name = running.task.name
            if self.live:
                self._bar(name, fraction, words)
            elif time.monotonic() - self.said.get(name, 0) >= self.EVERY:
                self.say(f"{name}: {words}")
                self.said[name] = time.monotonic()

    def _bar(self, name: str, fraction: float, words: str) -> None:
        from tqdm import tqdm

        with self.guard:
            if name not in self.bars:
                shape = "{desc} |{bar:16}| {postfix}"
                self.bars[name] = tqdm(
                    total=1.0, desc=name, bar_format=shape, leave=False, dynamic_ncols=True
                )
            bar = self.bars[name]
            bar.n = min(1.0, fraction)
            bar.set_postfix_str(words)

    def end(self, outcome: Outcome) -> None:
        """Say what became of a notebook."""
        with self.guard:
            if bar := self.bars.pop(outcome.name, None):
                bar.close()
        time_taken = f" in {duration(outcome.seconds)}" if outcome.seconds else ""
        self.say(f"{outcome.name}: {outcome.state}{time_taken}; {outcome.note}".rstrip("; "))

    def say(self, text: str) -> None:
        """Write one line, above the bars where there are any."""
        from tqdm import tqdm

        with self.guard:
            tqdm.write(text, file=sys.stderr)
            sys.stderr.flush()

    def close(self) -> None:
        """Take away what is left of the bars."""
        with self.guard:
            for bar in self.bars.values():
                bar.close()
            self.bars.clear()


# --- the worker: one process, one notebook ------------------------------------------------------


def work(task: Task) -> None:
    """Execute a task's notebook into its partial place, telling the runner how far it is."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries and the kernel print must not mix with the events
    threading.Thread(target=_end_with_runner, daemon=True).start()

    def tell(**event: Any) -> None:
        print(EVENT + json.dumps(event), file=channel, flush=True)

    try:
        _execute(task, tell)
    except Exception as error:
        kind, text = type(error).__name__, str(error)
        if kind == "PapermillExecutionError":
            kind, text = error.ename, error.evalue
        tell(problem={"kind": kind, "text": text})


def _execute(task: Task, tell: Any) -> None:
    # jsonschema would take a second to import this, to check addresses that no notebook has
    sys.modules.setdefault("rfc3987_syntax", None)
    import papermill
    from papermill.engines import NBClientEngine, papermill_engines

    class Engine(NBClientEngine):
        """Papermill's own engine, which also tells each cell it starts."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **kwargs: Any) -> Any:
            heading_of, start = notebooks.headings(nb_man.nb.cells), nb_man.cell_start

            def cell_start(cell: Any, cell_index: int = 0, **more: Any) -> None:
                total = len(nb_man.nb.cells)
                tell(cell=cell_index + 1, cells=total, heading=heading_of[cell_index])
                start(cell, cell_index, **more)

            nb_man.cell_start = cell_start
            return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)

    papermill_engines.register("colorlib", Engine)
    literal = [str(p).replace("{", "{{").replace("}", "}}") for p in _places(task)]
    papermill.execute_notebook(
        *literal,  # papermill fills {name} in paths
        parameters={**task.parameters, "report_dir": str(task.partial)},
        engine_name="colorlib",
        kernel_name="python3",
        language="python",  # also for a notebook whose metadata were stripped
        progress_bar=False,
        start_timeout=300,
    )


def _places(task: Task) -> tuple[Path, Path]:
    return notebooks.path(task.name), task.partial / "notebook.ipynb"


def _end_with_runner() -> None:
    """Wait for the lifeline to break; then leave no kernel behind, not even for a second."""
    import psutil

    while os.read(0, 1):
        pass
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(1)


if __name__ == "__main__":
    work(Task(**json.loads(sys.argv[1])))
