"""The worker: one process, one notebook; and the runner's hold on it.

A worker's standard input is its lifeline: when the runner dies, however it dies, the worker ends
its kernel and itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import colorlib
from colorlib import notebooks
from colorlib.files import read_json
from colorlib.reproduce.board import duration
from colorlib.reproduce.outlook import Expectation
from colorlib.reproduce.tasks import RunError, Task

PROGRESS = ".progress.json"
LOCKED = ("Errno 13]", "Errno 30]", "Permission denied", "Read-only file system")
NO_KERNEL = "Kernel died before replying"  # it found one of its ports taken by another program
EVENT = "\x1e"  # begins the worker's own lines; anything else on its output is noise of libraries


@dataclass
class Running:
    """One task under way: its process and how far it is."""

    task: Task
    expected: Expectation
    began: float = 0.0
    cell: int = 0
    cell_began: float = 0.0
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
        package = str(Path(colorlib.__file__).parents[1])
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
            self.cell_began = time.time()
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
        """Return what the training of the present cell says of itself, {} when there is none."""
        file = self.task.partial / PROGRESS
        try:
            fresh = file.stat().st_mtime >= self.cell_began
        except OSError:
            return {}
        state = read_json(file) if fresh else {}
        return state if state.get("total") else {}

    def progress(self) -> tuple[float, str]:
        """Return the fraction done, by cells, and one line of words with an estimate."""
        training = self.training()
        share = training["done"] / training["total"] if training else 0.0
        words, left = f"{self.heading}, cell {self.cell}/{self.cells}".lstrip(", "), 0.0
        if training:
            words += f", {training['label']} {training['done']}/{training['total']}"
            left = training["seconds"] * (1 / share - 1) if share else 0.0
        words = f"{words if self.cells else 'starting'}, {duration(self.seconds)}"
        ahead = self.expected.seconds - self.seconds if self.expected.measured else 0.0
        if ahead > 0:
            words += f", about {duration(max(left, ahead))} left"
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
        return "there is no Jupyter kernel 'python3'; mend: python -m pip install ipykernel"
    if "Errno 28" in text or "No space left" in text:
        return f"{where}the disk is full; free some space and run again: it continues"
    if any(sign in text for sign in LOCKED):
        return f"{where}{text}; allow it, or choose another place with -p report_dir FOLDER"
    return f"{where}{kind}: {text}"


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
    _with_a_kernel(
        papermill.execute_notebook,
        *literal,  # papermill fills {name} in paths
        parameters={**task.parameters, "report_dir": str(task.partial)},
        engine_name="colorlib",
        kernel_name="python3",
        language="python",  # also for a notebook whose metadata were stripped
        progress_bar=False,
        start_timeout=300,
    )


def _with_a_kernel(execute: Any, *places: str, tries: int = 3, **options: Any) -> None:
    """Execute; where the kernel did not come up, nothing has run yet: start it again."""
    for left in reversed(range(tries)):
        try:
            return execute(*places, **options)
        except RuntimeError as error:
            if NO_KERNEL not in str(error) or not left:
                raise


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
