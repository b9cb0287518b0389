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
    """Reduce a report's figures to 256 colours, the largest first, until the report is small."""
    drawn = list((report / "figures").glob("*.png"))
    told = [path for path in report.glob("[!.]*") if path.is_file()]
    total = sum(path.stat().st_size for path in drawn + told)
    for figure in sorted(drawn, key=lambda path: (-path.stat().st_size, path.name)):
        if total <= most:
            break
        small = pictures.to_palette(figure.read_bytes())
        total -= max(0, figure.stat().st_size - len(small))
        if len(small) < figure.stat().st_size:
            files.write_atomic(figure, small)
