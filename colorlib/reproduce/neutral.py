"""Executed notebooks without the machine they ran on."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from colorlib import files, pictures
from colorlib.reproduce.tasks import Task, named_paths

MOST = 2_900_000  # bytes of a report that is worth committing; weights and checkpoints are not
QUALITIES = (85, 75, 65)  # of the JPEGs, the best that fits
PAGE_SHARE = 0.6  # of the notebook's bytes is its page
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


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
    named = dict(_existing(text, path) for text, path in named_paths(task).items())
    places = {path: path.name for path in named.values()} | places
    both = {str(form): to for path, to in places.items() for form in (path, path.resolve())}
    both |= {text: path.name for text, path in named.items() if os.sep in text}
    return {path: both[path] for path in sorted(both, key=len, reverse=True) if len(path) > 1}


def _existing(text: str, path: Path) -> tuple[str, Path]:
    """Cut a glob pattern, and the text that gave it, back to the folder it looks in."""
    while not os.path.exists(path):
        text, path = os.path.dirname(text), path.parent
    return text, path


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


def _lighten(output: dict[str, Any]) -> None:
    """Keep a small JPEG of a figure in the notebook: the PNG itself lies in figures/."""
    about = output.get("metadata", {}).get("image/png", {})
    if about.get("file"):
        data = base64.b64decode("".join(output["data"].pop("image/png")))
        output["data"]["image/jpeg"] = base64.b64encode(pictures.to_jpeg(data)).decode()
        output["metadata"]["image/jpeg"] = output["metadata"].pop("image/png")


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
        for output in cell.get("outputs", []):
            _lighten(output)
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True)
    files.write_atomic(file, text + "\n")


def fit_figures(report: Path, most: int = MOST) -> None:
    """Make JPEGs of a report's figures, the largest first, until the report is small.

    To be done before its page is written; the notebook's links follow.
    """
    drawn = {path: path.read_bytes() for path in sorted((report / "figures").glob("*.png"))}
    notebook = report / "notebook.ipynb"
    text = notebook.read_text(encoding="utf-8")
    told = sum(path.stat().st_size for path in report.glob("[!.]*") if path.is_file())
    room = most - told - PAGE_SHARE * len(text)  # the page is written last
    for figure, small in _smaller(drawn, room).items():
        files.write_atomic(figure.with_suffix(".jpg"), small)
        text = text.replace(f'"figures/{figure.name}"', f'"figures/{figure.stem}.jpg"')
        figure.unlink()
    files.write_atomic(notebook, text)


def _smaller(drawn: dict[Path, bytes], room: float) -> dict[Path, bytes]:
    """Choose which figures become JPEGs, of what quality, so that all fit into some bytes."""
    chosen: dict[Path, bytes] = {}
    for quality in QUALITIES:
        chosen, total = {}, sum(map(len, drawn.values()))
        for figure in sorted(drawn, key=lambda path: (-len(drawn[path]), path.name)):
            if total <= room:
                return chosen
            small = pictures.to_jpeg(drawn[figure], 10_000, quality, full_colour=True)
            if len(small) < len(drawn[figure]):
                chosen[figure] = small
                total -= len(drawn[figure]) - len(small)
    return chosen
