"""The batch runner: each notebook in a kernel of its own, strict, resumable, whole or not at all.

A run is executed into `.NAME.partial` and renamed to its report when it is whole: papermill's own
"completed" also stands in what a killed kernel leaves. A kernel ends by itself, within a second,
when its runner dies, however it dies.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import colorlib
from colorlib import notebooks
from colorlib.batch import plan, speed, stamps
from colorlib.batch.plan import Expectation, RunError, Task
from colorlib.files import duration, read_json

CLEAR = "\r\x1b[K"  # the line on a terminal
EVERY = 20.0  # seconds between two lines of a log on one notebook
NO_KERNEL = "Kernel died before replying"  # it found one of its ports taken by another program
FULL = (errno.ENOSPC, errno.EDQUOT)
LOCKED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


@dataclass
class Run:
    """One notebook of a batch: how far it is, and what becomes of it."""

    task: Task
    expected: Expectation
    state: str = "waiting"  # running; finished, skipped, failed, refused, interrupted, would run
    why: str = ""  # it is run
    note: str = ""
    seconds: float = 0.0
    began: float = 0.0
    stopped: bool = False
    heading: str = ""
    cell: Any = None
    client: Any = None

    @property
    def name(self) -> str:
        """The notebook's name."""
        return self.task.name

    @property
    def good(self) -> bool:
        """True unless something is left to mend or to run."""
        return self.state in ("finished", "skipped", "would run")

    def end(self, state: str, note: str = "") -> None:
        """Say what became of it, and stop the clock."""
        self.seconds = time.monotonic() - self.began if self.began else 0.0
        self.note, self.state = note, state

    def stop(self) -> None:
        """End its kernel and all that the kernel started."""
        self.stopped = True
        with contextlib.suppress(AttributeError, TypeError, OSError):  # none yet, or no longer
            os.killpg(self.client.km.provisioner.pgid, signal.SIGKILL)

    def progress(self) -> str:
        """Say in one line where it is and how long it will take."""
        words, seconds = [self.heading or "starting"], time.monotonic() - self.began
        for output in (self.cell or {}).get("outputs", [])[-1:]:  # a training's own line moves
            words.append(output.get("data", {}).get("text/plain", ""))
        words.append(duration(seconds))
        if self.expected.memory and self.expected.seconds > seconds:
            words.append(f"about {duration(self.expected.seconds - seconds)} left")
        return ", ".join(filter(None, words))


def run(
    names: Iterable[str] = (),
    profile: str = "laptop",
    parameters: dict[str, Any] | None = None,
    kind: str = "lessons",
    jobs: int = 1,
    force: bool = False,
    dry_run: bool = False,
) -> list[Run]:
    """Run notebooks (all of a kind when none is named) and publish their reports.

    Args:
        parameters: values for every notebook named, over those of the profile; strictly checked.
        kind: "lessons" or "studies".
        jobs: notebooks at a time; the threads of the machine are divided among them.
        force: run also what is unchanged.
        dry_run: only say what would run and what it would take.
    """
    tasks = plan.plan(names, profile, parameters, kind)
    groups = [[Run(task, plan.expectation(task)) for task in group] for group in tasks]
    everything = [each for group in groups for each in group]
    board = Board(everything)
    for group in groups:
        if dry_run:
            for each in group:
                _guarded(each, _foretell, force)
            continue
        beside = min(jobs, len(group))
        with ThreadPoolExecutor(beside) as pool:
            board.watch({pool.submit(_guarded, each, _make, force, beside) for each in group})
    return everything


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
    """Say in one line what went wrong, and how to mend it where that is known."""
    kind, text = type(error).__name__, str(error)
    if kind == "PapermillExecutionError":  # the notebook's own
        kind, text = error.ename, error.evalue
    text, where = " ".join(text.split()), f"in '{heading}': " if heading else ""
    if isinstance(error, RunError):
        return text
    if kind == "DeadKernelError":
        return f"{where}the kernel died (out of memory?); try a smaller batch or fewer --jobs"
    if kind == "NoSuchKernel":
        return "there is no Jupyter kernel 'python3'; mend: python -m pip install ipykernel"
    if any(f"[Errno {code}]" in text for code in FULL):
        return f"{where}the disk is full; free some space and run again: it continues"
    if any(f"[Errno {code}]" in text for code in LOCKED):
        return f"{where}{text}; allow it, or {stamps.ELSEWHERE}"
    return f"{where}{kind}: {text}"


def _why(task: Task, current: dict[str, str], force: bool) -> str:
    """Say why a notebook is run, and whether a report in git is replaced; "" to skip it."""
    why = stamps.changes(task.report, current) or ("forced" if force else "")
    if why and stamps.is_committed(task.report):
        why += "; replaces a committed report: git restore brings that back"
    return why


def _foretell(each: Run, force: bool) -> None:
    """Say what a run would do and take."""
    stamps.refuse_foreign(each.task)
    why = _why(each.task, stamps.stamp(each.task), force)
    each.end("would run" if why else "skipped", why or "unchanged")
    if why:
        memory = f"{each.expected.memory / 1024:.1f} GiB of memory, " * bool(each.expected.memory)
        each.note, each.seconds = f"{why} ({memory}{each.expected.source})", each.expected.seconds


def _make(each: Run, force: bool, beside: int) -> None:
    """Skip, or execute, check and publish one notebook, under its lock."""
    from colorlib.batch import report, results  # they import torch

    task = each.task
    with stamps.lock(task):
        stamps.recover(task)
        stamps.refuse_foreign(task)
        current = stamps.stamp(task)
        why = _why(task, current, force)
        if not why:
            made = read_json(task.report / stamps.STAMP)["finished"]
            return each.end("skipped", f"unchanged since {made}; --force runs it again")
        stamps.prepare(task, current)
        each.why, each.began, each.state = why, time.monotonic(), "running"
        execute(each, environment(beside))
        report.finish(task, time.monotonic() - each.began)
        stamps.seal(task)
        stamps.publish(task)
        each.end("finished", results.headline(read_json(task.report / "metrics.json")))


def environment(beside: int) -> dict[str, str]:
    """Return the environment of a kernel, of which so many share the machine."""
    package = str(Path(colorlib.__file__).parents[1])
    search = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    environ = {**os.environ, **speed.fast_environment(os.environ), "PYTHONPATH": search}
    if beside > 1 and not environ.get("COLORLIB_THREADS"):
        from colorlib import machine  # it imports torch

        share = min(machine.physical_cores() // beside, machine.MOST_THREADS)
        environ["COLORLIB_THREADS"] = str(max(1, share))
    return environ


def execute(each: Run, environ: dict[str, str]) -> None:
    """Execute a notebook into its partial place; raise its first error."""
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NotebookExecutionManager
    from papermill.execute import raise_for_execution_errors
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    partial = each.task.beside("partial")
    values = {**each.task.parameters, "report_dir": str(partial)}
    source = load_notebook_node(str(notebooks.path(each.task.name)))
    notebook = parameterize_notebook(source, values, kernel_name="python3", language="python")
    headings, target = notebooks.headings(notebook.cells), str(partial / "notebook.ipynb")

    def at_cell(cell: Any, cell_index: int) -> None:
        if each.stopped:
            raise RunError("stopped")
        each.cell, each.heading = cell, headings[cell_index]

    kernel = {"kernel_name": "python3", "startup_timeout": 300, "on_cell_start": at_cell}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for left in (2, 1, 0):
        manager = NotebookExecutionManager(notebook, output_path=target, progress_bar=False)
        manager.notebook_start()
        each.client = PapermillNotebookClient(manager, timeout=None, **kernel)
        try:
            each.client.execute(env=environ, **silent)
            break
        except RuntimeError as error:
            if NO_KERNEL not in str(error) or not left:  # else nothing has run: start it again
                raise
    manager.notebook_complete()
    raise_for_execution_errors(notebook, target)
    each.cell, each.heading = None, "the report"


class Board:
    """Says what goes on: by a line that moves on a terminal, by one now and then in a log."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs, self.said, self.drawn_at = runs, ["waiting"] * len(runs), time.monotonic()

    def watch(self, work: set[Any]) -> None:
        """Show how it goes until all the work is done; Ctrl-C ends it, kernels included."""
        while work:
            try:
                work = wait(work, 0.25, FIRST_COMPLETED).not_done
                self.draw()
            except KeyboardInterrupt:
                for each in self.runs:
                    each.stop()

    def draw(self) -> None:
        """Say what has begun or ended, and how far it is what runs."""
        for number, (each, before) in enumerate(zip(self.runs, self.said, strict=True)):
            state = self.said[number] = each.state
            if before == "waiting" and each.why:
                expected = f"about {duration(each.expected.seconds)}, {each.expected.source}"
                self._say(f"{each.name}: starts ({each.why}; {expected})")
            if state not in (before, "running"):
                took = f" in {duration(each.seconds)}" if each.seconds else ""
                self._say(f"{each.name}: {state}{took}; {each.note}".rstrip("; "))
        running = [f"{e.name}: {e.progress()}" for e in self.runs if e.state == "running"]
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns - 1
            print(f"{CLEAR}{' · '.join(running)[:width]}", end="", file=sys.stderr, flush=True)
        elif running and time.monotonic() - self.drawn_at >= EVERY:
            self._say("\n".join(running))

    def _say(self, text: str) -> None:
        print(f"{CLEAR * sys.stderr.isatty()}{text}", file=sys.stderr, flush=True)
        self.drawn_at = time.monotonic()
