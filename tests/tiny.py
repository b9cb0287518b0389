"""A project of tiny notebooks, for tests of what runs, reads and shows notebooks."""

from __future__ import annotations

import json
from pathlib import Path

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
