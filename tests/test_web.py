"""`make web`: the page paints a photo as `colorize` does, says what is wrong, and asks nobody."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import browsing
import numpy as np
import pytest
from browsing import Browser, needs_browser, process, wait
from exporting import WEIGHTS
from PIL import Image

from colorlib import color, datasets, metrics, notebooks, pictures

lesson = notebooks.load("07_together")
pytestmark = [
    needs_browser,
    pytest.mark.skipif(not shutil.which("npm"), reason="no npm here, which make web needs"),
    pytest.mark.slow,
    pytest.mark.xdist_group("web"),  # one server and one browser serve all
]
SAID = "(document.getElementById('said')?.textContent ?? 'not yet loaded')"
# A size, another temperature than 1, and how far the page may be off. 345 x 230 becomes 96 x 64:
# nothing is padded. 330 becomes 92, padded to 96, which the exported network takes for picture
CASES = [((345, 230), 0.3, 0.05), ((330, 230), 0.5, 1.0)]


@pytest.fixture(scope="module")
def folder(exported) -> Path:
    if not (exported.parent / "index.html").exists():
        pytest.skip("npm cannot fetch onnxruntime-web")
    return exported.parents[1]


@pytest.fixture(scope="module")
def weights(folder) -> Path:
    return folder / WEIGHTS


@pytest.fixture(scope="module")
def photos(folder) -> dict[tuple[int, int], Path]:
    """Photos that lie on their side, as cameras write them."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise
    files = {size: folder / f"photo{size[0]}.jpg" for size, *_ in CASES}
    for size, file in files.items():
        rgb = pictures.resize(datasets.photo("scenes/akc_246"), size[::-1], "squash")
        Image.fromarray(rgb).save(file, quality=98, subsampling=0, exif=exif)
    return files


@pytest.fixture(scope="module")
def address(folder) -> Iterator[str]:
    """Where a plain server serves what `make web` has built."""
    server = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "-d"]
    log = folder / "server.log"
    with process([*server, str(folder / "web")], folder, log):
        yield wait(lambda: re.findall(r"http://127[\d.:]+/", log.read_text()), "the server")[0]


@pytest.fixture(scope="module")
def chromium(folder) -> Iterator[Browser]:
    """A browser that writes down what is asked of the network."""
    with browsing.browser(folder, f"--log-net-log={folder / 'network.json'}") as opened:
        yield opened


@pytest.fixture
def browser(chromium, address, folder) -> Browser:
    """The page, opened anew."""
    chromium.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    chromium.call("Page.navigate", url=address)
    wait(lambda: chromium.value(f"document.readyState == 'complete' && {SAID} == ''"), "the page")
    return chromium


def give(browser: Browser, file: Path) -> None:
    """Choose a file as the photo."""
    found = browser.call("Runtime.evaluate", expression="document.getElementById('file')")
    browser.call("DOM.setFileInputFiles", files=[str(file)], objectId=found["result"]["objectId"])


def save(browser: Browser, kind: str, file: Path) -> np.ndarray:
    """Wait until the photo is painted, save it, and read it."""
    wait(lambda: re.search("painted in|Saved", browser.value(SAID)), "the painting")
    browser.value(f"document.querySelector('[data-type=\"image/{kind}\"]').click()")
    wait(file.exists, "the file")
    wait(lambda: "Saved" in browser.value(SAID), "the page to say so")
    rgb = pictures.read_rgb(file)
    file.unlink()
    return rgb


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(metrics.ciede2000(one[None], other[None]).mean())


@pytest.mark.parametrize(("size", "other", "close"), CASES)
def test_the_page_paints_as_python_does_and_another_temperature_otherwise(
    browser, folder, weights, photos, size, other, close
):
    model, grey = lesson.load_model(weights), color.lightness_of(pictures.read_rgb(photos[size]))
    ours = [color.to_picture(lesson.colorize(model, grey, temperature=t)) for t in (1.0, other)]
    png = folder / f"{photos[size].stem}-coloured.png"
    give(browser, photos[size])
    theirs = [save(browser, "png", png)]
    browser.value(f"said.textContent = ''; temperature.value = {other}")
    browser.value("temperature.dispatchEvent(new Event('input'))")
    theirs += [save(browser, "png", png)]
    assert theirs[0].shape == (*size, 3)  # it stands upright
    assert max(map(difference, ours, theirs)) < close
    assert difference(*theirs) > 1
    assert difference(theirs[0], color.grey_of(theirs[0])) > 5
    assert difference(save(browser, "jpeg", png.with_suffix(".jpg")), theirs[1]) < 3
    assert browser.exceptions == []


def test_what_cannot_be_painted_is_said_in_one_line(browser, folder):
    text, large = folder / "words.txt", folder / "large.png"
    text.write_text("no picture")
    Image.new("1", (8200, 8000)).save(large)
    for file, why in ((text, "is no picture that this"), (large, "has more than 64 megapixels")):
        give(browser, file)
        wait(lambda w=f"{file.name} {why}": browser.value(SAID).startswith(w), why)
        assert browser.value("said.className") == "bad"


def test_a_browser_without_webassembly_is_told_so(browser, address):
    source = {"source": "delete globalThis.WebAssembly"}
    browser.call("Page.enable")
    script = browser.call("Page.addScriptToEvaluateOnNewDocument", **source)
    try:
        browser.call("Page.navigate", url=address)
        wait(lambda: "no WebAssembly" in browser.value(SAID), "the line")
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", **script)


def test_the_handle_moves_by_keyboard(browser):
    browser.value("view.hidden = false; compare.focus()")
    for _ in range(3):
        for kind in ("keyDown", "keyUp"):
            key = {"key": "ArrowLeft", "code": "ArrowLeft", "windowsVirtualKeyCode": 37}
            browser.call("Input.dispatchKeyEvent", type=kind, **key)
    assert browser.value("compare.ariaValueText") == "53 % coloured"
    assert browser.value("getComputedStyle(colour).clipPath") == "inset(0px 0px 0px 47%)"


def test_nothing_is_asked_of_another_machine(browser, folder, address):
    other = address.replace("127.0.0.1", "localhost")  # the same server, but another name
    ask = f"fetch('{other}', {{mode: 'no-cors'}}).then(() => 'answered', () => 'refused')"
    inside = f"new Worker(URL.createObjectURL(new Blob([`{ask}.then(postMessage)`])))"
    browser.value(f"{ask}.then(answer => page = answer); 1")
    browser.value(f"{inside}.onmessage = ({{data}}) => inner = data; 1")
    wait(lambda: browser.value("window.page && window.inner"), "the answers")
    assert browser.value("[page, inner]") == ["refused", "refused"]
    browser.value("fetch('index.html?last'); 1")
    log = folder / "network.json"
    wait(lambda: "?last" in log.read_text(), "the last request")
    own = [line for line in log.read_text().splitlines() if '"initiator":"http' in line]
    asked = [re.findall('"url":"([^"]+)"', line)[0] for line in own]
    names = {url.removeprefix(address) for url in asked}
    assert {"worker.js", "model.onnx"} <= names and not [n for n in names if ":" in n]
