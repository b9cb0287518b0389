"""The project as a class gets it: all that is committed, but for the solutions of the exercises."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from colorlib import files

SOLUTION = re.compile(r"\s*<details>\s*<summary>Solution.*?</details>", re.S)  # on pages, too
LEFT_OUT = ("tests/", ".ci/")  # they hold the notebooks to having solutions


class TeachingError(Exception):
    """The project cannot be handed out; one line that says what to mend."""


def hand_out(folder: str | Path) -> Path:
    """Write the project without solutions into a new folder; return it."""
    folder, root = Path(folder).resolve(), files.root()
    if folder.exists():
        raise TeachingError(f"{folder} is there already: remove it, or name another with -o")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name in _committed(root):
        if not name.startswith(LEFT_OUT):
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target)
            _take_out(target, answers=name.startswith("notebooks/"))
    return partial.rename(folder)


def _committed(root: Path) -> list[str]:
    listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True)
    if listed.returncode:
        raise TeachingError(f"{root} is no git checkout: git knows which files belong to it")
    names = listed.stdout.decode().split("\0")
    return [name for name in names if name and (root / name).is_file()]


def _take_out(file: Path, answers: bool) -> None:
    """Take the solutions out of a notebook or a page; other files stay as they are."""
    if file.suffix not in (".ipynb", ".html"):
        return
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".ipynb":
        notebook = json.loads(text)
        cells = (new for cell in notebook["cells"] for new in without_solutions(cell, answers))
        text = json.dumps({**notebook, "cells": list(cells)}, indent=1, ensure_ascii=False) + "\n"
    else:
        text = SOLUTION.sub("", text)
    file.write_text(text, encoding="utf-8")


def without_solutions(cell: dict[str, Any], answers: bool) -> Iterator[dict[str, Any]]:
    """Give a cell without its solutions; with `answers`, each exercise and a cell to answer in."""
    source = "".join(cell["source"])
    if cell["cell_type"] != "markdown" or not source.startswith("## Exercises"):
        yield cell
        return
    head, *exercises = re.split(r"^(?=\d+\. )", SOLUTION.sub("", source), flags=re.M)
    if not answers:
        yield {**cell, "source": head + "".join(exercises)}
        return
    yield {**cell, "source": head.strip()}
    for number, exercise in enumerate(exercises, 1):
        yield {**cell, "id": f"exercise-{number}", "source": exercise.strip()}
        answer = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
        yield {**answer, "id": f"answer-{number}", "source": f"# answer to exercise {number}"}
