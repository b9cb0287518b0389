"""A headless browser, and the servers that it visits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websocket

ROOT = Path(__file__).parents[1]
KNOWN = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, KNOWN)), "")
MENU = """
(name => {
  const found = [...document.querySelectorAll('.lm-MenuBar-itemLabel, .lm-Menu-itemLabel')]
    .find(label => label.textContent === name);
  const box = found?.getBoundingClientRect();
  return box?.width ? [box.x + box.width / 2, box.y + box.height / 2] : null;
})
"""
PATIENCE = 120  # seconds for anything that is waited for
needs_browser = pytest.mark.skipif(not BROWSER, reason="no Chromium here; .ci/run installs it")


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

    def probe(self, script: str) -> None:
        """Run a script in each page that is opened from now on, before the page's own."""
        self.call("Page.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def open(self, page: Path, width: int, height: int) -> None:
        """Open a file in a window of that size."""
        window = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **window)
        self.call("Page.navigate", url=page.as_uri())

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


@contextmanager
def browser(folder: Path, *options: str) -> Iterator[Browser]:
    """A browser while it is needed; its profile lies in the folder."""
    profile, log = folder / "profile", folder / "browser.log"
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    command += [f"--user-data-dir={profile}", *options, "about:blank"]
    with process(command, folder, log):
        told = profile / "DevToolsActivePort"
        port = wait(lambda: told.exists() and told.read_text().split(), "the browser")[0]
        yield Browser(port)
