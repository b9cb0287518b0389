"""The committed pages as a reader's browser sees them: no broken link, no error, any width."""

import io
import re
import subprocess
import tarfile
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import browsing
import pytest
import tiny
from browsing import ROOT, Browser, needs_browser, wait
from bs4 import BeautifulSoup

from colorlib.batch import pages

PROBE = """
const errors = [];
addEventListener("error", event => errors.push(event.message || event.target.outerHTML), true);
addEventListener("load", () => {
  const broken = [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src);
  const root = document.documentElement;
  window.seen = {errors, broken, wide: root.scrollWidth - root.clientWidth,
    pictures: document.images.length, page: location.href};
});
"""
pytestmark = pytest.mark.xdist_group("site")  # one browser serves all


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The committed reports, beside what they link to."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD"], capture_output=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as committed:
        committed.extractall(folder)
    return folder / "reports"


@cache
def soup_of(page: Path) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


def test_there_is_a_site_and_every_link_leads_somewhere(site):
    found = {page.relative_to(site).as_posix() for page in site.rglob("*.html")}
    assert {"index.html", "claims.html"} <= found and len(found) > 3
    lost = []
    for page in site.rglob("*.html"):
        for element in soup_of(page).find_all(["a", "img"]):
            address = element.get("href") or element.get("src") or ""
            if re.match(r"(https?|mailto|data):", address):
                continue
            path, _, fragment = unquote(address).partition("#")
            target = (page.parent / path).resolve() if path else page
            anchored = fragment and target.suffix == ".html"
            if not target.exists() or (anchored and not soup_of(target).find(id=fragment)):
                lost.append(f"{page.relative_to(site)}: {address}")
    assert lost == []


def test_headings_descend_one_level_at_a_time(site):
    for page in site.rglob("*.html"):
        soup = soup_of(page)
        levels = [int(h.name[1]) for h in soup.find_all(re.compile("^h[1-6]$"))]
        assert levels[0] == 1 and levels.count(1) == 1, page
        assert all(b - a <= 1 for a, b in pairwise(levels)), page
        assert soup.html.get("lang") and soup.title.get_text(strip=True), page


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    with browsing.browser(tmp_path_factory.mktemp("browser")) as opened:
        opened.probe(PROBE)
        yield opened


def browse(browser: Browser, page: Path, width: int) -> dict:
    """Open a page and return what the probe saw."""
    browser.open(page, width, 900)
    loaded = f"window.seen?.page == {page.as_uri()!r} && window.seen"
    return wait(lambda: browser.value(loaded), page.name)


@needs_browser
def test_the_probe_sees_what_is_wrong(browser, tmp_path):
    page = tmp_path / "bad.html"
    wide = '<p style="width: 2000px">wide</p>'
    page.write_text(f"<html><head></head><img src='no.png'><script>oops()</script>{wide}</html>")
    seen = browse(browser, page, 500)
    assert len(seen["broken"]) == 1 and "oops" in str(seen["errors"]) and seen["wide"] > 1000


@needs_browser
def test_a_slider_works_on_a_page_that_may_fetch_nothing(browser, tmp_path):
    script = """const b = document.querySelector(".slider b"); b.textContent = "moved";
    addEventListener("securitypolicyviolation", () => b.textContent += ", not fetched");
    fetch("http://127.0.0.1:9/").catch(() => 0)"""
    html = f'<div class="slider"><b>still</b><script>{script}</script></div>'
    shown = {"output_type": "display_data", "metadata": {}, "data": {"text/html": html}}
    notebook = tiny.notebook("# T", "slider()")
    notebook["cells"][1]["outputs"] = [shown]
    tiny.keep(tmp_path / "notebook.ipynb", notebook)
    assert browse(browser, pages.render(tmp_path), 500)["errors"] == []
    said = "document.querySelector('.slider b').textContent"
    wait(lambda: browser.value(said) == "moved, not fetched", "the slider")
    assert browser.value("errors") == []


@needs_browser
@pytest.mark.parametrize("width", [500, 1280])
def test_a_browser_shows_every_page_without_an_error(browser, site, width):
    for page in sorted(site.rglob("*.html")):
        seen = browse(browser, page, width)
        assert seen["pictures"] == len(soup_of(page).find_all("img"))
        assert (seen["errors"], seen["broken"]) == ([], []), page
        assert seen["wide"] <= 0, f"{page} is {seen['wide']} pixels too wide at {width}"
