"""A project of tiny notebooks, for tests of what runs, reads and shows notebooks."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import colorlib
from colorlib import files
from colorlib.batch import stamps
from colorlib.batch.plan import plan

PARAMETERS = """
profile: str = "laptop"  # which of the four
seed: int = 0  # of everything that draws
rate: float = 1e-4  # of learning
data: str = "flowers"  # a set or a folder
studies: list[str] = []  # which to run
report_dir: str = ""  # where to write
"""
SCORES = {
    **{"psnr": 21.0, "psnr_pooled": 20.5, "ssim": 0.9, "cf_ratio": 0.5, "delta_e": 9.0},
    **{"gain_over_grey": 1.5, "n": 12},
    "ci95": {key: [0.0, 30.0] for key in ("psnr", "ssim", "delta_e", "gain_over_grey")},
}
METRICS = {
    "notebook": "01_good",
    "profile": "smoke",
    "data": {"name": "flowers", "train": 40, "test": 12, "excluded_grey": 0},
    "results": {"grey_floor": SCORES, "mean_ab": SCORES, "ours": SCORES},
    "paper": {"psnr": 24.33},
    "claims": [
        {
            **{"claim": "bolder", "section": "4.1", "test": "chroma", "number": "1 [0, 2]"},
            **{"verdict": "supported", "trainings": 3, "scale": "4 % of the paper's"},
            "origin": None,
        }
    ],
    "questions": [],
    "studies": {},
}


def notebook(*cells: str, **about: object) -> dict:
    """Build a notebook; a cell is code, markdown ("# ...") or code tagged by "%%TAG" above it.

    about: what it says of itself in its metadata.
    """
    built = []
    for number, source in enumerate(cells):
        source, tags = source.strip("\n"), []
        if source.startswith("%%"):
            tag, _, source = source.partition("\n")
            tags = [tag[2:]]
        cell = {"cell_type": "code", "execution_count": None, "outputs": []}
        if source.startswith("#"):
            cell = {"cell_type": "markdown"}
        built.append({**cell, "id": f"c{number}", "metadata": {"tags": tags}, "source": source})
    metadata = {"colorlib": about} if about else {}
    return {"cells": built, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def write(root: Path, name: str, *cells: str, **about: object) -> Path:
    """Write a tiny notebook into a project."""
    file = root / "notebooks" / f"{name}.ipynb"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(notebook(*cells, **about)))
    return file


def keep(file: Path, content: object) -> None:
    """Write JSON where it belongs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def leave_report(folder: Path, name: str, profile: str) -> None:
    """Write what papermill and record.write leave of an executed notebook."""
    executed = notebook("# Good", "print(1)")
    executed["metadata"] = {"papermill": {"parameters": {}, "version": "2"}}
    keep(folder / "notebook.ipynb", executed)
    keep(folder / "metrics.json", {**METRICS, "notebook": name, "profile": profile})
    date = "2025-01-02T03:04:05+00:00"
    keep(folder / "run.json", {"date": date, "place": str(folder), "parameters": {}})


RECORD = f"""
import json
from pathlib import Path
metrics = {json.dumps(METRICS)!r}.replace("smoke", profile)
Path(report_dir, "metrics.json").write_text(metrics)
run = {{"date": "2025-01-02T03:04:05+00:00", "place": report_dir}}
run["parameters"] = {{"report_dir": report_dir}}
Path(report_dir, "run.json").write_text(json.dumps(run))
"""


def use(root: Path, patch: pytest.MonkeyPatch) -> Path:
    """Work in a project whose colorlib has one module."""
    patch.setenv("COLORLIB_ROOT", str(root))
    patch.delenv("COLORLIB_DATA", raising=False)
    patch.setattr(colorlib, "__file__", str(root / "colorlib" / "__init__.py"))
    patch.chdir(root)
    return root


def printed(report: Path) -> str:
    """Return all that a report's notebook printed."""
    cells = json.loads((report / "notebook.ipynb").read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "".join("".join(output.get("text", "")) for output in outputs)


def play(each, environ):
    """Stand in for a kernel: write what papermill and a notebook would."""
    leave_report(each.task.partial, each.task.name, each.task.profile)


def task_of(name="01", profile="laptop", **given):
    return plan([name], profile, given)[0][0]


def finish(task, **contents):
    """Make the report of a task, of these files."""
    stamps.recover(task)
    stamps.prepare(task, stamps.stamp(task))
    for name, content in {"notebook.ipynb": "{}", "index.html": "<p>", **contents}.items():
        file = task.partial / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
    stamps.seal(task)
    stamps.publish(task)
    return task


def changes(task):
    return stamps.changes(task.report, stamps.stamp(task))


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def leave(task, text, parts=None):
    """Leave a run killed in the middle."""
    stamps.prepare(task, parts or stamps.stamp(task))
    for name in ("checkpoints/a.checkpoint.safetensors", "figures/old.png"):
        file = task.partial / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)


def files_of(place: Path) -> list[str]:
    return sorted(path.name for path in place.rglob("*") if path.is_file())


def commit(project):
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "core.hooksPath=/dev/null"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=project, check=True)
    return files.git(project, "rev-parse", "HEAD")
