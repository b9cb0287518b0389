"""The project as a class gets it: all that is committed, but for the solutions of the exercises."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from colorlib import files
from colorlib.batch.plan import RunError

SOLUTION = re.compile(r"\s*<details>\s*<summary>Solution.*?</details>", re.S)  # on pages, too
LEFT_OUT = ("tests/", ".ci/")  # they hold the notebooks to having solutions


def hand_out(folder: str | Path) -> Path:
    """Write the project without solutions into a new folder; return it."""
    folder, root = Path(folder).resolve(), files.root()
    if folder.exists():
        raise RunError(f"{folder} is there already: remove it, or name another with -o")
    names = files.git(root, "ls-files", "-z")
    if names is None:
        raise RunError(f"{root} is no git checkout: git knows what belongs to it")
    for name in names.split("\0"):
        file, target = root / name, folder / name
        if name.startswith(LEFT_OUT) or not file.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)
        if file.suffix == ".html":
            target.write_text(SOLUTION.sub("", file.read_text("utf-8")), "utf-8")
        elif file.suffix == ".ipynb":
            notebook, answers = files.read_json(file, strict=True), name.startswith("notebooks/")
            notebook["cells"] = [new for cell in notebook["cells"] for new in _given(cell, answers)]
            files.write_json(target, notebook)
    return folder


def _given(cell: dict[str, Any], answers: bool) -> Iterator[dict[str, Any]]:
    """Give a cell without its solutions; with `answers`, each exercise and a cell to answer in."""
    source = SOLUTION.sub("", "".join(cell["source"]))
    if not source.startswith("## Exercises"):
        yield cell
        return
    head, *exercises = re.split(r"^(?=\d+\. )", source, flags=re.M) if answers else [source]
    yield {**cell, "source": head.strip()}
    answer = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    for n, exercise in enumerate(exercises, 1):
        yield {**cell, "id": f"exercise-{n}", "source": exercise.strip()}
        yield {**answer, "id": f"answer-{n}", "source": f"# answer to exercise {n}"}
