"""`make slides`: every page becomes a deck; nothing on a slide overflows, nothing is broken."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import browsing
import pytest
from browsing import ROOT, needs_browser, wait

pytestmark = [
    needs_browser,
    pytest.mark.skipif(not shutil.which("npm"), reason="no npm here, which make slides needs"),
    pytest.mark.slow,
    pytest.mark.xdist_group("slides"),  # one `make slides` for both sizes
]
PROBE = """
const errors = [];
for (const kind of ["error", "securitypolicyviolation"]) {
  addEventListener(kind, event => errors.push(event.message || event.type), true);
}
addEventListener("load", () => setTimeout(() => {
  const seen = [...document.querySelectorAll(".slides section section")].map(slide => {
    const {h, v} = Reveal.getIndices(slide), scale = Reveal.getScale();
    Reveal.slide(h, v);
    const {left, top} = slide.getBoundingClientRect();
    const over = [...slide.querySelectorAll(":scope > *, img, table, math")].filter(part => {
      const {right, bottom} = part.getBoundingClientRect();
      return right > left + 1280 * scale + 1 || bottom > top + 720 * scale + 1;
    });
    const shown = [...slide.children].filter(part => part.getBoundingClientRect().height > 9);
    const broken = [...slide.querySelectorAll("img")].filter(image => !image.naturalWidth);
    return {shown: shown.length, over: over.length, broken: broken.length, text: slide.innerText};
  });
  window.seen = {errors, slides: seen, page: location.href};
}, 500));
"""


@pytest.fixture(scope="module")
def decks(tmp_path_factory) -> Path:
    """What `make slides` makes of the reports that are here."""
    folder = tmp_path_factory.mktemp("decks") / "slides"
    done = subprocess.run(["make", "slides", f"SLIDES={folder}"], cwd=ROOT, capture_output=True)
    if done.returncode and not [*ROOT.glob("build/reveal.js-*.tgz")]:
        pytest.skip("npm cannot fetch reveal.js")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("size", [(1280, 720), (900, 1200)])
def test_every_slide_holds_what_is_on_it(decks, tmp_path, size):
    pages = [page for page in sorted(decks.rglob("index.html")) if page.parent != decks]
    assert {page.parent.name for page in pages} >= {"00_primer", "07_together"}
    with browsing.browser(tmp_path) as browser:
        browser.probe(PROBE)
        for page in pages if size == (1280, 720) else pages[:2]:
            browser.open(page, *size)
            shown = f"window.seen?.page.startsWith({page.as_uri()!r}) && window.seen"
            seen = wait(lambda s=shown: browser.value(s), page)
            fewest = 20 if "studies" in page.as_posix() else 21  # a lesson is longer
            assert seen["errors"] == [] and len(seen["slides"]) >= fewest, page
            for number, slide in enumerate(seen["slides"], 1):
                assert (slide["over"], slide["broken"]) == (0, 0), f"{page}, slide {number}"
                assert slide["shown"] > 1, f"{page}: slide {number} is bare"
                assert "Solution" not in slide["text"]
            folded = "document.querySelectorAll('.slides details, .slides .highlight').length"
            assert browser.value(folded) == 0
