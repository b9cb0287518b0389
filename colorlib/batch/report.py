"""An executed notebook becomes a report: checked, small, without the machine it ran on."""

import base64
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from colorlib import files, pictures
from colorlib.batch import pages
from colorlib.batch.plan import RunError, Task, named_paths

MOST = 2_300_000  # bytes of a report's figures and notebook; with its page under three million
QUALITY = 75  # of the JPEGs that take the place of figures where there are more


def finish(task: Task, seconds: float) -> None:
    """Make what a notebook left in its partial place a report."""
    from colorlib import record  # it imports torch

    partial, places = task.partial, neutral_places(task)
    if not (partial / "metrics.json").exists():
        raise RunError("every cell ran, but there is no metrics.json; did a cell call exit()?")
    metrics, run = record.read(partial)
    run["wall_seconds"] = round(seconds, 1)
    run["parameters"]["report_dir"] = ""  # as in the notebook
    notebook = _neutral(files.read_json(partial / "notebook.ipynb", strict=True))
    whole = {"metrics.json": metrics, "run.json": run, "notebook.ipynb": notebook}
    for name, content in whole.items():
        files.write_json(partial / name, scrub(content, places))
    shrink(partial)
    pages.render(partial)


def neutral_places(task: Task) -> dict[str, str]:
    """Map this machine's folders to names that mean the same everywhere, longest first."""
    root, name = files.root(), "REPORT_DIR"
    if task.report.is_relative_to(root):
        name = task.report.relative_to(root).as_posix()
    places = {}
    for text, path in named_paths(task).items():
        while not path.exists():  # a pattern: back to the folder that it looks in
            text, path = os.path.dirname(text), path.parent
        places |= {path: path.name} | ({Path(text): path.name} if os.sep in text else {})
    places |= {
        **{Path.cwd(): "CURRENT_DIR", Path(sys.prefix): "PYTHON", Path.home(): "HOME"},
        **{Path(tempfile.gettempdir()): "TMP", files.data_root(): "data", root: "PROJECT"},
        **{task.report: name, task.partial: name},
    }
    both = {str(form): to for path, to in places.items() for form in (path, path.resolve())}
    return {path: both[path] for path in sorted(both, key=len, reverse=True) if len(path) > 1}


def scrub(value: Any, places: dict[str, str]) -> Any:
    """Replace folders of this machine in every string of a JSON value, pictures excepted."""
    if isinstance(value, str):
        for path, name in places.items():
            if path in value:
                literal = name.replace("\\", r"\\")
                value = re.sub(rf"(?<![\w.-]){re.escape(path)}(?![\w-])", literal, value)
        return re.sub(r"TMP/ipykernel_\d+/\d+\.py", "cell", value)
    if isinstance(value, list):
        return [scrub(item, places) for item in value]
    if isinstance(value, dict):
        kept = {"image/png", "image/jpeg"}
        return {key: item if key in kept else scrub(item, places) for key, item in value.items()}
    return value


def _neutral(notebook: dict[str, Any]) -> dict[str, Any]:
    """Take times and report_dir out of an executed notebook; of figures it keeps a small JPEG."""
    about = notebook["metadata"]["papermill"]
    given = {**about["parameters"], "report_dir": ""}
    notebook["metadata"]["papermill"] = {"parameters": given, "version": about["version"]}
    for cell in notebook["cells"]:
        for key in ("papermill", "execution"):
            cell["metadata"].pop(key, None)
        if "injected-parameters" in cell["metadata"].get("tags", []):
            source = re.sub(r"(?m)^report_dir = .*$", 'report_dir = ""', "".join(cell["source"]))
            cell.update(id="injected-parameters", source=source.splitlines(keepends=True))
        for output in cell.get("outputs", []):
            linked = "file" in output.get("metadata", {}).get("image/png", {})
            if linked and "image/png" in output["data"]:
                data = base64.b64decode("".join(output["data"].pop("image/png")))
                output["data"]["image/jpeg"] = base64.b64encode(pictures.to_jpeg(data)).decode()
                output["metadata"]["image/jpeg"] = output["metadata"].pop("image/png")
    return notebook


def shrink(report: Path, most: int = MOST) -> None:
    """Make JPEGs of figures, the largest first, until a report is small; its notebook follows."""
    notebook, figures = report / "notebook.ipynb", [*report.glob("figures/*.png")]
    excess = sum(path.stat().st_size for path in (notebook, *figures)) - most
    full = excess < 3 * most  # else they are so many that colour at half resolution must do
    for figure in sorted(figures, key=lambda path: -path.stat().st_size):
        if excess > 0:
            small = pictures.to_jpeg(figure.read_bytes(), 10_000, QUALITY, full_colour=full)
            files.write_atomic(figure.with_suffix(".jpg"), small)
            excess -= figure.stat().st_size - len(small)
            figure.unlink()
            links = f'"figures/{figure.name}"', f'"figures/{figure.stem}.jpg"'
            files.write_atomic(notebook, notebook.read_text(encoding="utf-8").replace(*links))
