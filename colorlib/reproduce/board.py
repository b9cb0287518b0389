"""What a person sees while notebooks run: bars, lines, tables."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from colorlib.reproduce import Outcome
    from colorlib.reproduce.worker import Running


def duration(seconds: float) -> str:
    """Write a time as a person says it: 8 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


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
        expected = running.expected
        took = f"about {duration(expected.seconds)}, {expected.source}"
        self.say(f"{running.task.name}: starts ({why}; {took})")
        self.said[running.task.name] = time.monotonic()

    def draw(self) -> None:
        """Show how far each running notebook is."""
        for running in self.runnings:
            with self.guard:  # so that none ends between being asked and being shown
                if running.began:
                    self._show(running)

    def _show(self, running: Running) -> None:
        fraction, words = running.progress()
        name = running.task.name
        if self.live:
            self._bar(name, fraction, words)
        elif time.monotonic() - self.said.get(name, 0) >= self.EVERY:
            self.say(f"{name}: {words}")
            self.said[name] = time.monotonic()

    def _bar(self, name: str, fraction: float, words: str) -> None:
        from tqdm import tqdm

        if name not in self.bars:
            shape = "{bar:16} {desc}"
            options = {"leave": False, "dynamic_ncols": True, "file": sys.stderr}
            self.bars[name] = tqdm(total=1.0, bar_format=shape, **options)
        bar = self.bars[name]
        bar.n = min(1.0, fraction)
        bar.set_description_str(f"{name}: {words}")

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
