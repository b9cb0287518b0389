"""An executed notebook becomes a report: checked, small, without the machine it ran on."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from colorlib import files, notebooks, pictures
from colorlib.batch import pages
from colorlib.batch.plan import RunError, Task, named_paths
from colorlib.files import read_json

MOST = 2_900_000  # bytes of a report that is worth committing; weights are not
QUALITY = 75  # of the JPEGs that take the place of figures where a report is larger


def finish(task: Task, seconds: float) -> None:
    """Make what a notebook left in its partial place a report, or raise RunError."""
    from colorlib import record  # it imports torch

    partial, places = task.beside("partial"), neutral_places(task)
    notebook, metrics = partial / "notebook.ipynb", partial / "metrics.json"
    run = read_json(partial / "run.json")
    content = _neutral(scrub(read_json(notebook, strict=True), places))
    text = json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True)
    files.write_atomic(notebook, text + "\n")
    if run:
        run |= {"wall_seconds": round(seconds, 1)}
        if "report_dir" in run.get("parameters", {}):
            run["parameters"]["report_dir"] = ""  # as in the notebook
        files.write_json(partial / "run.json", scrub(run, places))
    try:
        if metrics.exists():
            content = scrub(read_json(metrics, strict=True), places)
            record.check_metrics(content)
            files.write_json(metrics, content)
        elif _records(task):
            raise RunError("every cell ran, but there is no metrics.json; did a cell call exit()?")
        pages.render(partial)
        if shrink(partial):
            pages.render(partial)
    except (record.RecordError, pages.PageError) as error:
        raise RunError(str(error)) from error


def _records(task: Task) -> bool:
    cells = notebooks.cells(notebooks.path(task.name))
    return any("record.write(" in c["source"] for c in cells if c["cell_type"] == "code")


def neutral_places(task: Task) -> dict[str, str]:
    """Map this machine's folders to names that mean the same everywhere, longest first."""
    root, name = files.root(), "REPORT_DIR"
    if task.report.is_relative_to(root):
        name = task.report.relative_to(root).as_posix()
    places = {}
    for text, path in named_paths(task).items():
        while not path.exists():  # a pattern: back to the folder that it looks in
            text, path = os.path.dirname(text), path.parent
        places[path] = path.name
        if os.sep in text:
            places[Path(text)] = path.name
    places |= {
        Path.cwd(): "CURRENT_DIR",
        Path(sys.prefix): "PYTHON",
        Path(tempfile.gettempdir()): "TMP",
        Path.home(): "HOME",
        files.data_root(): "data",
        root: "PROJECT",
        task.report: name,
        task.beside("partial"): name,
    }
    both = {str(form): to for path, to in places.items() for form in (path, path.resolve())}
    return {path: both[path] for path in sorted(both, key=len, reverse=True) if len(path) > 1}


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
        kept = {"image/png", "image/jpeg"}
        return {key: item if key in kept else scrub(item, places) for key, item in value.items()}
    return value


def _neutral(notebook: dict[str, Any]) -> dict[str, Any]:
    """Take times out of an executed notebook, and where it was written to.

    The injected report_dir becomes "", so that a reader who runs this copy overwrites no report.
    """
    about = notebook["metadata"].get("papermill", {})
    given = {**about.get("parameters", {}), "report_dir": ""}
    notebook["metadata"]["papermill"] = {"parameters": given, "version": about.get("version")}
    for cell in notebook["cells"]:
        for key in ("papermill", "execution"):
            cell["metadata"].pop(key, None)
        if "injected-parameters" in cell["metadata"].get("tags", []):
            source = re.sub(r"(?m)^report_dir = .*$", 'report_dir = ""', "".join(cell["source"]))
            cell.update(id="injected-parameters", source=source.splitlines(keepends=True))
        for output in cell.get("outputs", []):
            _lighten(output)
    return notebook


def _lighten(output: dict[str, Any]) -> None:
    """Keep a small JPEG of a figure in the notebook: the PNG itself lies in figures/."""
    about = output.get("metadata", {}).get("image/png", {})
    if about.get("file") and "image/png" in output["data"]:  # a slider shows HTML
        data = base64.b64decode("".join(output["data"].pop("image/png")))
        output["data"]["image/jpeg"] = base64.b64encode(pictures.to_jpeg(data)).decode()
        output["metadata"]["image/jpeg"] = output["metadata"].pop("image/png")


def shrink(report: Path, most: int = MOST) -> bool:
    """Make JPEGs of figures, the largest first, until a report is small; True where it was not.

    The links of the notebook follow; its page must be written again.
    """
    shown = [path for path in (*report.glob("[!.]*"), *report.glob("figures/*")) if path.is_file()]
    size = {path: path.stat().st_size for path in shown}
    excess = sum(size.values()) - most
    if excess <= 0:
        return False
    text, left = (report / "notebook.ipynb").read_text(encoding="utf-8"), excess
    for figure in sorted(report.glob("figures/*.png"), key=lambda path: (-size[path], path)):
        small = pictures.to_jpeg(figure.read_bytes(), 10_000, QUALITY, full_colour=True)
        if left > 0 and len(small) < size[figure]:
            files.write_atomic(figure.with_suffix(".jpg"), small)
            figure.unlink()
            text = text.replace(f'"figures/{figure.name}"', f'"figures/{figure.stem}.jpg"')
            left -= size[figure] - len(small)
    files.write_atomic(report / "notebook.ipynb", text)
    return True
