"""`make lab` as a reader does it: the page opens, every cell runs from its menu, none fails."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import browsing
import nbformat
import pytest
import yaml
from browsing import ROOT, Browser, needs_browser, process, wait
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from colorlib import files

LESSON = "00_primer"
BROKEN = "broken"  # must be seen to fail
# the lab would ask whether to leave while it still saves
LEAVE = "addEventListener('beforeunload', event => event.stopImmediatePropagation(), true)"
pytestmark = pytest.mark.xdist_group("lab")  # one server and one browser serve both tests


def make_lab() -> list[str]:
    """Return the command that `make lab` ends with, in this environment."""
    options = {"cwd": ROOT, "capture_output": True, "text": True, "check": True}
    told = subprocess.run(["make", "--dry-run", "--no-print-directory", "lab"], **options)
    program, *options = shlex.split(told.stdout.splitlines()[-1])
    assert program == ".venv/bin/jupyter"
    return [sys.executable, "-m", "jupyter", *options]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A project with the lesson at its smallest, and a notebook in which one cell fails."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "notebooks").mkdir()
    values = yaml.safe_load((ROOT / f"notebooks/params/smoke/{LESSON}.yml").read_text())
    values["report_dir"] = str(folder / "report")
    lesson = load_notebook_node(str(ROOT / f"notebooks/{LESSON}.ipynb"))
    failing = nbformat.v4.new_notebook(metadata=lesson.metadata)
    failing.cells = [nbformat.v4.new_code_cell(source) for source in ("1 + 1", "1 / 0", "2 + 2")]
    for name, content in ((LESSON, parameterize_notebook(lesson, values)), (BROKEN, failing)):
        nbformat.write(content, folder / "notebooks" / f"{name}.ipynb")
    return folder


@pytest.fixture(scope="module")
def lab(folder) -> Iterator[str]:
    """The address that JupyterLab prints when `make lab` starts it."""
    log, token = folder / "lab.log", "--IdentityProvider.token=told"
    command = [*make_lab(), "--no-browser", "--allow-root", "--port=0", token]
    with process(command, folder, log):
        printed = r"http://127\.0\.0\.1:\d+/\S*"
        (address,) = wait(lambda: re.findall(printed, log.read_text()), "the server's address")
        yield address.partition("?")[0] + "?token=told"


@pytest.fixture(scope="module")
def browser(folder) -> Iterator[Browser]:
    with browsing.browser(folder, "--window-size=1280,900") as opened:
        opened.probe(LEAVE)
        yield opened


def run_all(browser: Browser, address: str, file: Path) -> list[dict]:
    """Open a notebook, run all its cells by the menu, save; return its code cells as saved."""

    def idle() -> bool:
        with urllib.request.urlopen(re.sub("/lab/.*[?]", "/api/sessions?", address)) as answer:
            kernels = [s["kernel"] for s in json.load(answer) if s["path"].endswith(file.name)]
        return any(k["connections"] and k["execution_state"] == "idle" for k in kernels)

    def saved() -> list[dict]:
        browser.choose("File", "Save Notebook")
        cells = files.read_json(file).get("cells", [])  # none while it is being written
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        failed = any(o["output_type"] == "error" for cell in code for o in cell["outputs"])
        done = all(cell["execution_count"] for cell in code)
        return code if done or failed else []

    browser.call("Page.navigate", url=address)
    wait(idle, "an idle kernel")
    browser.choose("Run", "Run All Cells")
    return wait(lambda: idle() and saved(), f"{file.name} to run")


@needs_browser
@pytest.mark.parametrize(
    ("name", "errors"), [(LESSON, []), (BROKEN, ["ZeroDivisionError: division by zero"])]
)
def test_the_lab_opens_and_runs_the_primer_and_a_cell_that_fails_is_seen(
    lab, browser, folder, name, errors
):
    assert f"/notebooks/{LESSON}.ipynb" in lab
    cells = run_all(browser, lab.replace(LESSON, name), folder / f"notebooks/{name}.ipynb")
    found = [o for cell in cells for o in cell["outputs"] if o["output_type"] == "error"]
    assert [f"{o['ename']}: {o['evalue']}" for o in found] == errors
    run = [bool(cell["execution_count"]) for cell in cells]
    assert run == [True, True, False] if errors else all(run)
    assert errors or (folder / "report/metrics.json").is_file()
    assert browser.exceptions == []
