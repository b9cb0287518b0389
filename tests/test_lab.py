"""`make lab` as a reader does it: the page opens, every cell runs from its menu, none fails."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest
import websocket
import yaml
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from test_site import BROWSER, needs_browser

ROOT = Path(__file__).parents[1]
LESSON = "00_primer"
BROKEN = "broken"  # must be seen to fail
PATIENCE = 120  # seconds for anything that is waited for; the whole takes about half a minute
pytestmark = pytest.mark.xdist_group("lab")  # one server and one browser serve both tests
MENU = """
(name => {
  const found = [...document.querySelectorAll('.lm-MenuBar-itemLabel, .lm-Menu-itemLabel')]
    .find(label => label.textContent === name);
  const box = found?.getBoundingClientRect();
  return box?.width ? [box.x + box.width / 2, box.y + box.height / 2] : null;
})
"""


class Browser:
    """One page of a headless Chromium, driven through its DevTools protocol."""

    def __init__(self, port: str) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            page = next(tab for tab in json.load(answer) if tab["type"] == "page")
        address = page["webSocketDebuggerUrl"]
        self.socket = websocket.create_connection(address, timeout=PATIENCE, suppress_origin=True)
        self.sent = 0
        self.exceptions: list[str] = []
        self.call("Runtime.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command; return its result. Exceptions of the page are kept on the way."""
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": parameters}
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("method") == "Runtime.exceptionThrown":
                self.exceptions.append(str(answer["params"]["exceptionDetails"]))
            if answer.get("id") == self.sent:
                assert "error" not in answer, answer
                return answer["result"]

    def value(self, script: str) -> Any:
        """Return what a script gives in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def click(self, x: float, y: float) -> None:
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            pressed = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **pressed)

    def choose(self, *path: str) -> None:
        """Click through a menu: "Run", "Run All Cells"."""
        for name in path:
            self.click(*wait(lambda n=name: self.value(f"{MENU}({n!r})"), f"the menu item {name}"))


def wait(ready: Callable[[], Any], what: str) -> Any:
    """Wait until `ready` gives something, and return it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {PATIENCE} seconds for {what}")


@contextmanager
def process(command: list[str], folder: Path, log: Path) -> Iterator[None]:
    """A server while it is needed; it and what it started end with the block."""
    own = {f"JUPYTER_{kind}_DIR": str(folder / kind) for kind in ("CONFIG", "RUNTIME")}
    options = {"cwd": folder, "env": {**os.environ, **own}, "start_new_session": True}
    with log.open("w") as stream:
        started = subprocess.Popen(command, stdout=stream, stderr=stream, **options)
    try:
        yield
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()


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
    profile = folder / "profile"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    options += [f"--user-data-dir={profile}", "--window-size=1280,900", "about:blank"]
    with process([BROWSER, *options], folder, folder / "browser.log"):
        told = profile / "DevToolsActivePort"
        port = wait(lambda: told.exists() and told.read_text().split(), "the browser")[0]
        yield Browser(port)


def run_all(browser: Browser, address: str, file: Path) -> list[dict]:
    """Open a notebook, run all its cells by the menu, save; return its code cells as saved."""

    def idle() -> bool:
        with urllib.request.urlopen(re.sub("/lab/.*[?]", "/api/sessions?", address)) as answer:
            kernels = [s["kernel"] for s in json.load(answer) if s["path"].endswith(file.name)]
        return any(k["connections"] and k["execution_state"] == "idle" for k in kernels)

    def saved() -> list[dict]:
        browser.choose("File", "Save Notebook")
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
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
