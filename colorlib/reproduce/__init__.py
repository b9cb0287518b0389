"""The batch runner: each notebook in a process of its own, strict, resumable, whole or not at all.

A run is executed into `reports/PROFILE/.NAME.partial/` and renamed to `reports/PROFILE/NAME/` when
it is whole: papermill's own "completed" also stands in what a killed kernel leaves.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colorlib import files, notebooks, pages
from colorlib.files import read_json
from colorlib.reproduce import neutral, stamps
from colorlib.reproduce.board import Board, columns, duration
from colorlib.reproduce.outlook import expectation, status
from colorlib.reproduce.tasks import RunError, Task, at_once, plan, turn
from colorlib.reproduce.worker import PROGRESS, Running, one_line

__all__ = ["Outcome", "RunError", "Task", "columns", "plan", "run", "status", "table"]


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
    runnings = [Running(task, expectation(task)) for task in tasks]
    board = Board(runnings)
    outcomes: list[Outcome] = []
    try:
        for number in (0, 1, 2):
            group = [running for running in runnings if turn(running.task.name)[0] == number]
            outcomes += _run_group(group, at_once(number, jobs), force, board)
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
        with stamps.lock(report):
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
    stamps.recover(report)
    stamps.refuse_foreign(report)
    current = stamps.stamp(task)
    why = stamps.changes(report, current)
    if why is None and not force:
        finished = read_json(report / stamps.STAMP)["finished"]
        note = f"unchanged since {finished}; --force runs it again"
        return Outcome(task.name, "skipped", note=note, report=task.report)
    stamps.prepare(task, current)
    running.began = time.monotonic()
    board.start(running, why or "forced")
    running.execute()
    _finish(task, running.seconds)
    finished = {"finished": time.strftime("%Y-%m-%d %H:%M"), "seconds": round(running.seconds, 1)}
    left = {"executed": stamps.executed_digest(task.partial)}
    left["files"] = sorted(path.name for path in task.partial.iterdir())
    files.write_json(task.partial / stamps.STAMP, {"parts": current, **finished, **left})
    stamps.publish(task.partial, report)
    return Outcome(
        task.name,
        "finished",
        note=pages.headline(read_json(report / "metrics.json")),
        report=task.report,
    )


def _finish(task: Task, seconds: float) -> None:
    """Make an executed notebook a report: neutral paths, checked numbers, a page."""
    from colorlib import record  # it imports torch

    places = neutral.neutral_places(task)
    partial = task.partial
    (partial / PROGRESS).unlink(missing_ok=True)
    neutral.scrub_notebook(partial / "notebook.ipynb", places, task)
    metrics, run = partial / "metrics.json", partial / "run.json"
    if run.exists():
        content = neutral.scrub(read_json(run), places)
        if "report_dir" in content.get("parameters", {}):
            content["parameters"]["report_dir"] = ""  # as in the notebook: it names the partial
        files.write_json(run, {**content, "wall_seconds": round(seconds, 1)})
    try:
        if metrics.exists():
            content = neutral.scrub(read_json(metrics), places)
            record.check_metrics(content)
            files.write_json(metrics, content)
        elif _records(task):
            raise RunError("every cell ran, but there is no metrics.json; did a cell call exit()?")
        neutral.fit_figures(partial)
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
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        reason = f"{error.filename or report} cannot be written ({error.strerror})"
        return f"{reason}; choose another place with -p report_dir FOLDER"
    return one_line({"kind": type(error).__name__, "text": str(error)})


def _foretell(task: Task, force: bool) -> Outcome:
    """Say what a run would do and take."""
    report = Path(task.report)
    try:
        stamps.refuse_foreign(report)
        why = stamps.changes(report, stamps.stamp(task))
    except (RunError, OSError) as error:
        note = disk_problem(error, report) if isinstance(error, OSError) else str(error)
        return Outcome(task.name, "refused", note=note, report=task.report)
    if why is None and not force:
        return Outcome(task.name, "skipped", note="unchanged", report=task.report)
    expected = expectation(task)
    memory = f"{expected.memory / 1024:.1f} GiB of memory, " if expected.memory else ""
    note = f"{why or 'forced'}; {memory}{expected.disk:.0f} MiB on disk ({expected.source})"
    return Outcome(task.name, "would run", expected.seconds, note, task.report)


def table(outcomes: list[Outcome]) -> str:
    """Lay the outcomes out as text: notebook, state, time, headline or reason."""
    rows = [("notebook", "state", "time", "")]
    rows += [(o.name, o.state, duration(o.seconds) if o.seconds else "-", o.note) for o in outcomes]
    total = sum(outcome.seconds for outcome in outcomes)
    bad = sum(not outcome.good for outcome in outcomes)
    last = f"{len(outcomes)} notebooks, {bad} not done, {duration(total)} of running"
    return f"{columns(rows)}\n{last}"
