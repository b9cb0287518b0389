"""The batch runner: each notebook in a kernel of its own, strict, resumable, whole or not at all.

A kernel ends by itself, within a second, when its runner dies, however it dies.
"""

import contextlib
import errno
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from subprocess import DEVNULL
from typing import Any

from colorlib import files, notebooks
from colorlib.batch import plan, speed, stamps
from colorlib.batch.plan import Expectation, RunError, Task

EVERY = 20.0  # seconds between two lines on how far it is
NO_KERNEL = "Kernel died before replying"  # it found one of its ports taken by another program
FULL = (errno.ENOSPC, errno.EDQUOT)
LOCKED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


@dataclass
class Run:
    """One notebook of a batch: how far it is, and what becomes of it."""

    task: Task
    expected: Expectation
    state: str = "waiting"  # running; finished, skipped, failed, refused, interrupted, would run
    note: str = ""  # why it is run; then, what came of it
    seconds: float = 0.0
    began: float = 0.0
    stopped: bool = False
    heading: str = ""
    cell: Any = None
    client: Any = None
    elsewhere: Any = None  # what a cluster promised

    @property
    def good(self) -> bool:
        """True unless something is left to mend or to run."""
        return self.state in ("finished", "skipped", "would run")

    def begin(self) -> None:
        """Start the clock, and say what it will take."""
        self.state, self.began = "running", time.monotonic()
        expected = f"about {files.duration(self.expected.seconds)}, {self.expected.source}"
        _say(f"{self.task.title}: starts ({self.note}; {expected})")

    def end(self, state: str, note: str) -> None:
        """Stop the clock, and keep what became of it."""
        self.seconds = time.monotonic() - self.began if self.began else 0.0
        self.note, self.state = note, state

    def stop(self) -> None:
        """End it, wherever it is."""
        self.stopped = True
        self.kill()
        if self.elsewhere:
            self.elsewhere.cancel()

    def kill(self) -> None:
        """End its kernel and all that the kernel started."""
        with contextlib.suppress(AttributeError, TypeError, OSError):  # none yet, or no longer
            os.killpg(self.client.km.provisioner.pgid, signal.SIGKILL)

    def progress(self) -> str:
        """Return a line on where it is and how long it will take."""
        words, seconds = [self.heading or "starting"], time.monotonic() - self.began
        for output in (self.cell or {}).get("outputs", [])[-1:]:  # a training's own line moves
            words.append(output.get("data", {}).get("text/plain", ""))
        words.append(files.duration(seconds))
        if self.expected.measured and self.expected.seconds > seconds:
            words.append(f"about {files.duration(self.expected.seconds - seconds)} left")
        return f"{self.task.title}: {', '.join(filter(None, words))}"


def run(
    names: Iterable[str] = (),
    profile: str = "laptop",
    parameters: dict[str, Any] | None = None,
    kind: str = "lessons",
    vary: Mapping[str, Sequence[Any]] | None = None,
    **how: Any,
) -> list[Run]:
    """Plan notebooks as `plan.plan` does, and run them as `run_tasks` does."""
    return run_tasks(plan.plan(names, profile, parameters, kind, vary), **how)


def run_tasks(
    tasks: list[list[Task]],
    jobs: int = 1,
    force: bool = False,
    dry_run: bool = False,
    make: Callable[[Run, bool, int], None] | None = None,
) -> list[Run]:
    """Run what was planned, one group after the other, `jobs` side by side; publish reports.

    make: what makes a report, unless it is made here.
    """
    groups = [[Run(task, plan.expectation(task)) for task in group] for group in tasks]
    everything = [each for group in groups for each in group]
    for group in groups:
        if dry_run:
            for each in group:
                _guarded(each, _foretell, force)
            continue
        beside = len(group) if make else min(jobs, len(group))
        how = make or make_report, force, beside
        with ThreadPoolExecutor(beside) as pool:
            _watch(everything, {pool.submit(_guarded, each, *how): each for each in group})
    return everything


def _watch(runs: list[Run], work: dict[Future, Run]) -> None:
    """Say how it goes until all the work is done; Ctrl-C ends it, kernels included."""
    said_at = time.monotonic()
    while work:
        try:
            for done in wait(work, 0.25, FIRST_COMPLETED).done:
                ended = work.pop(done)
                _say(f"{ended.task.title}: {ended.state} {ended.note}".rstrip())
        except KeyboardInterrupt:
            for each in runs:
                each.stop()
        if time.monotonic() - said_at >= EVERY:
            said_at = time.monotonic()
            for running in (each for each in runs if each.state == "running"):
                _say(running.progress())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _guarded(each: Run, work: Callable[..., None], *how: Any) -> None:
    """Do the work of one notebook; its problems become a line of the table, the others go on."""
    try:
        if each.stopped:
            raise RunError("not started")
        work(each, *how)
    except Exception as error:
        if each.stopped:
            each.end("interrupted", "run again to continue where it stopped")
        else:
            each.end("failed" if each.began else "refused", _reason(error, each.heading))


def _reason(error: Exception, heading: str) -> str:
    kind, text = type(error).__name__, str(error)
    if kind == "PapermillExecutionError":  # the notebook's own
        kind, text = error.ename, error.evalue
    text, where = " ".join(text.split()), f"in '{heading}': " if heading else ""
    if type(error).__module__.startswith("colorlib."):
        return text
    if kind == "DeadKernelError":
        return f"{where}the kernel died (out of memory?); try a smaller batch or fewer --jobs"
    if any(f"[Errno {code}]" in text for code in FULL):
        return f"{where}the disk is full; free some space and run again: it continues"
    if any(f"[Errno {code}]" in text for code in LOCKED):
        return f"{where}{text}; allow it, or {stamps.ELSEWHERE}"
    return f"{where}{kind}: {text}"


def _foretell(each: Run, force: bool) -> None:
    if due(each, force):
        each.end("would run", f"{each.note} ({each.expected.source})")
        each.seconds = each.expected.seconds


def due(each: Run, force: bool) -> dict[str, str]:
    """Return the stamp of what is to be run, and note why; {} where it is skipped."""
    stamps.refuse_foreign(each.task)
    current = stamps.stamp(each.task)
    each.note = stamps.changes(each.task.report, current) or ("forced" if force else "")
    if not each.note:
        each.end("skipped", "unchanged; --force runs it again")
        return {}
    if files.git(files.root(), "ls-files", "--", str(each.task.report)):
        each.note += "; replaces a committed report: git restore brings that back"
    return current


def make_report(each: Run, force: bool, beside: int) -> None:
    """Skip, or execute, check and publish one notebook, under its lock."""
    from colorlib.batch import report, results  # they import torch

    task = each.task
    with stamps.lock(task):
        current = due(each, force)
        if not current:
            return
        stamps.prepare(task, current)
        each.begin()
        _execute_together(each, environment(beside))
        report.finish(task, time.monotonic() - each.began)
        stamps.seal(task)
        stamps.publish(task)
        each.end("finished", results.headline(files.read_json(task.report / "metrics.json")))


def environment(beside: int) -> dict[str, str]:
    """Return the environment of a kernel, of which so many share the machine."""
    environ = {**os.environ, **speed.fast_environment(os.environ)}
    if beside > 1 and not environ.get("COLORLIB_THREADS"):
        from colorlib import machine  # it imports torch

        share = min(machine.physical_cores() // beside, machine.MOST_THREADS)
        environ["COLORLIB_THREADS"] = str(max(1, share))
    return environ


def _execute_together(each: Run, environ: dict[str, str]) -> None:
    """Execute a notebook in COLORLIB_PROCESSES kernels that train together; the first reports."""
    count = int(environ.get("COLORLIB_PROCESSES") or 1)
    if count == 1:
        return execute(each, environ)
    with socket.create_server(("127.0.0.1", 0)) as server:
        team = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.getsockname()[1])}
    team |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    places = [each.task.beside(f"process-{rank}") for rank in range(1, count)]
    runs = [each, *(Run(each.task._replace(report=place), each.expected) for place in places)]
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    try:
        for one in runs:
            one.task.partial.mkdir(exist_ok=True)
        with ThreadPoolExecutor(count) as pool:
            told = [{**environ, **team, **rank} for rank in ranks]
            work = [*map(pool.submit, [execute] * count, runs, told)]
            failed = [done for done in wait(work, None, FIRST_EXCEPTION).done if done.exception()]
            for one in runs if failed else ():
                one.kill()
        for done in failed:
            done.result()
    finally:
        for one in runs[1:]:
            shutil.rmtree(one.task.partial, ignore_errors=True)


def execute(each: Run, environ: dict[str, str]) -> None:
    """Execute a notebook into its partial place; raise its first error."""
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NotebookExecutionManager
    from papermill.execute import raise_for_execution_errors
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    values = {**each.task.parameters, "report_dir": str(each.task.partial)}
    source = load_notebook_node(str(notebooks.path(each.task.name)))
    notebook = parameterize_notebook(source, values, kernel_name="python3", language="python")
    headings, target = notebooks.headings(notebook.cells), str(each.task.partial / "notebook.ipynb")

    def at_cell(cell: Any, cell_index: int) -> None:
        if each.stopped:
            raise RunError("stopped")
        each.cell, each.heading = cell, headings[cell_index]

    kernel = {"kernel_name": "python3", "startup_timeout": 300, "on_cell_start": at_cell}
    for left in (2, 1, 0):
        manager = NotebookExecutionManager(notebook, output_path=target, progress_bar=False)
        manager.notebook_start()
        each.client = PapermillNotebookClient(manager, timeout=None, **kernel)
        try:
            each.client.execute(env=environ, stdout=DEVNULL, stderr=DEVNULL)
            break
        except RuntimeError as error:
            if NO_KERNEL not in str(error) or not left:  # else nothing has run: start it again
                raise
    manager.notebook_complete()
    raise_for_execution_errors(notebook, target)
    each.cell, each.heading = None, "the report"
