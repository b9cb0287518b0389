"""Report pages: readable without a network, by eye and by ear."""

from __future__ import annotations

import base64
import copy
import json
import re
import struct
import zlib
from html.parser import HTMLParser

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from colorlib import pages
from colorlib.reproduce import neutral


def png(width: int = 3, height: int = 2) -> bytes:
    """Return a grey PNG of that size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + b"\x80" * width for _ in range(height)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def shown(name: str = "grid", alt: str = "The red tulip turns orange") -> dict:
    """Return what show_figure leaves in a notebook."""
    about = {"alt": alt, "file": f"figures/{name}.png"}
    data = {"image/png": base64.b64encode(png()).decode(), "text/plain": alt}
    return {"output_type": "display_data", "data": data, "metadata": {"image/png": about}}


def report(root, *cells, outputs=(), name="03_flowers", profile="laptop", metrics=None):
    """Write an executed notebook, its figures and numbers; return the report folder."""
    folder = root / "reports" / profile / name
    (folder / "figures").mkdir(parents=True)
    notebook = tiny.notebook(*cells, "show()")
    notebook["cells"][-1]["outputs"] = list(outputs)
    (folder / "notebook.ipynb").write_text(json.dumps(notebook))
    for output in outputs:
        about = output.get("metadata", {}).get("image/png", {})
        if "file" in about:
            (folder / about["file"]).write_bytes(png())
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "run.json").write_text(json.dumps({"date": "2025-03-04T05:06:07+00:00"}))
    return folder


class Page(HTMLParser):
    """The elements of a page, in order: (tag, attributes); and its words."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.words = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words += data

    def all(self, *tags):
        return [attributes for tag, attributes in self.elements if tag in tags]


def read(file):
    return Page(file.read_text(encoding="utf-8"))


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    tiny.write(tmp_path, "03_flowers", "# Flowers", 'MAIN_ROW: str = "ours"')
    return tmp_path


def test_a_page_can_be_read_by_everyone(root):
    cells = ("# Auto *colorization*\n\nA claim.", "#### Data", "# Second title", "## Results")
    folder = report(root, *cells, outputs=[shown()], metrics=tiny.METRICS)
    page = read(pages.render(folder))
    assert page.all("html") == [{"lang": "en"}]
    assert "Auto colorization" in page.words
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels == [1, 2, 2, 2]
    assert page.all("a")[0] == {"class": "skip", "href": "#main"}
    assert page.all("main") == [{"id": "main"}]
    contents = [a["href"] for a in page.all("a") if a["href"].startswith("#")]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert set(contents) <= {f"#{name}" for name in ids}
    assert len(ids) == len(set(ids))
    assert "prefers-color-scheme: dark" in (folder / "index.html").read_text()
    assert "gain over grey +1.50 dB" in page.words and "2025-03-04" in page.words


def test_pictures_link_the_report_s_own_files(root):
    image = read(pages.render(report(root, "# T", outputs=[shown()]))).all("img")
    size = {"width": "3", "height": "2"}
    assert image == [{"src": "figures/grid.png", "alt": "The red tulip turns orange", **size}]


def test_a_lightened_notebook_still_links_its_figures(root):
    folder = report(root, "# T", outputs=[shown()], metrics={"claims": []})
    file = folder / "notebook.ipynb"
    content = json.loads(file.read_text())
    neutral._lighten(content["cells"][-1]["outputs"][0])
    file.write_text(json.dumps(content))
    page = read(pages.render(folder)).all("img")
    assert [(i["src"], i["alt"]) for i in page] == [
        ("figures/grid.png", shown()["data"]["text/plain"])
    ]
    (card,) = read(pages.render_index(root / "reports")).all("img")
    assert card["src"] == "laptop/03_flowers/figures/grid.png"


def test_a_picture_without_a_file_is_carried(root):
    output = shown()
    output["metadata"]["image/png"] = {"alt": "A tulip"}
    image = read(pages.render(report(root, "# T", outputs=[output]))).all("img")[0]
    assert image["src"].startswith("data:image/png;base64,") and image["alt"] == "A tulip"


@pytest.mark.parametrize("cell", ["# T\n\n![](figures/a.png)", '# T\n\n<img src="figures/a.png">'])
def test_prose_needs_alt_text_too(root, cell):
    with pytest.raises(pages.PageError, match="a picture under 'T' has no alt text"):
        pages.render(report(root, cell))


def test_a_picture_without_alt_text_fails(root):
    folder = report(root, "# T", "## Results", outputs=[shown(alt=" ")])
    with pytest.raises(pages.PageError, match="a picture under 'Results' has no alt text"):
        pages.render(folder)
    assert not (folder / "index.html").exists()


def test_nothing_is_asked_of_any_server(root):
    html = {"text/html": "<script src='https://a.example/x.js'></script><b>kept</b>"}
    output = {"output_type": "display_data", "data": html, "metadata": {}}
    equation = "$$\\mathbb{E}_x[\\log D(x)] \\tag{2}$$ and $x_i$"
    folder = report(root, f"# T\n\n{equation}\n\n[a paper](https://b.example)", outputs=[output])
    page = read(pages.render(folder))
    assert not page.all("script", "link", "iframe")
    assert "kept" in page.words and "(2)" in page.words
    assert len(page.all("math")) == 2
    sources = [attributes["src"] for _, attributes in page.elements if "src" in attributes]
    assert not [src for src in sources if "//" in src]
    assert {"href": "https://b.example"} in page.all("a")


@pytest.mark.parametrize("address", ["https://a.example/i.png", "//a.example/i.png"])
def test_a_picture_from_elsewhere_fails(root, address):
    with pytest.raises(pages.PageError, match="would be fetched from the network"):
        pages.render(report(root, f"# T\n\n![words]({address})"))


def test_links_are_mended_for_the_report_s_place(root):
    (root / "data").mkdir()
    (root / "data" / "README.md").write_text("data")
    text = "[six](06_six.ipynb#results) [data](../data/README.md) [x](#t) [gone](nowhere.md)"
    links = [a["href"] for a in read(pages.render(report(root, f"# T\n\n{text}"))).all("a")]
    for wanted in ("../06_six/index.html#results", "../../../data/README.md", "#t", "nowhere.md"):
        assert wanted in links
    assert "../../index.html" in links


def test_printed_pieces_are_joined_and_overwritten_lines_dropped(root):
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": "step 1\rstep 2\r"},
        {"output_type": "stream", "name": "stdout", "text": "step 3\ndone <b>\n"},
        {"output_type": "stream", "name": "stderr", "text": "a warning"},
    ]
    page = read(pages.render(report(root, "# T", outputs=outputs)))
    assert "step 3\ndone <b>" in page.words and "step 1" not in page.words
    assert len(page.all("pre")) == 3  # the code, what it printed, the messages
    assert "Messages" in page.words and "a warning" in page.words


def test_code_folds_and_the_tag_closes_it(root):
    folder = report(root, "# T", "%%fold\nimport torch")
    assert open_code(pages.render(folder)) == [False, True]


def test_under_takeaways_verdicts_come_before_their_rules(root):
    cells = ("# T", "judge()", "## Takeaways", "%%define\ndef judge(): pass", "## Exercises")
    assert open_code(pages.render(report(root, *cells))) == [True, False, True]


def open_code(page) -> list[bool]:
    """Is it open? For each piece of code on a page."""
    return ["open" in d for d in read(page).all("details") if d["class"] == "code"]


def test_a_broken_notebook_is_one_line(root):
    folder = report(root, "# T")
    (folder / "notebook.ipynb").write_text("{")
    with pytest.raises(pages.PageError, match="not a readable notebook"):
        pages.render(folder)


@pytest.mark.parametrize(
    "latex",
    [
        r"\arg\min_G \max_D \mathcal{L}(G, D)",
        r"\begin{aligned} a &= b \\ c &= d \end{aligned}",
        r"\operatorname{SSIM}(x, y)",
        r"\lVert y - \hat{y} \rVert_F^2 \le 1",
    ],
)
def test_what_the_papers_write_becomes_mathml(latex):
    assert pages.mathml(latex).startswith("<math")


def test_a_function_keeps_its_distance_and_its_index():
    assert f"<mi>log</mi>{pages.THIN_SPACE}<mi>x</mi>" in pages.mathml(r"\log x")
    assert "<msub><mi>log</mi><mn>2</mn></msub>" in pages.mathml(r"\log_2 x")


@given(st.text(alphabet="\\{}^_&x1<arlefticn ", max_size=25))
@settings(deadline=None, max_examples=80)
def test_any_equation_stays_readable(latex):
    shown = pages.mathml(latex)
    assert shown.startswith(("<math", '<code class="tex">'))
    if shown.startswith("<code"):
        assert Page(shown).words == latex.strip()


def test_the_index_has_a_card_for_each_notebook_and_a_link_for_each_run(root):
    other = copy.deepcopy(tiny.METRICS)
    other["notebook"] = "03_flowers"
    other["claims"] += [{"claim": "c", "test": "t", "number": 1, "verdict": "did not hold"}]
    other["results"]["ours"]["gain_over_grey"] = -0.25
    first, second = shown("curves", "The loss falls"), shown("grid", "Tulips")
    flowers = report(root, "# Flowers", outputs=[second], metrics=other, profile="evening")
    report(root, "# Not first", metrics=other, profile="laptop")
    report(root, "# Not seen", metrics=other, profile="smoke")
    report(root, "# Not seen", metrics=other, profile="local")
    report(root, "# Not whole", name=".04_x.partial")
    cells = ("# Patches", "## Training", "## Results")
    patches = report(root, *cells, outputs=[second], name="01_good", metrics=tiny.METRICS)
    notebook = json.loads((patches / "notebook.ipynb").read_text())
    training = {**notebook["cells"][-1], "id": "x", "outputs": [first]}
    notebook["cells"].insert(2, training)
    (patches / "figures/curves.png").write_bytes(png())
    (patches / "notebook.ipynb").write_text(json.dumps(notebook))
    for folder in (flowers, patches, *(root / "reports").glob("[sl]*/03*")):
        pages.render(folder)
    page = read(pages.render_index(root / "reports"))
    links = [a["href"] for a in page.all("a")]
    patches, evening, laptop = "laptop/01_good", "evening/03_flowers", "laptop/03_flowers"
    folders = [patches, patches, patches, evening, evening, evening, laptop]  # picture, title, runs
    assert links == ["#main", *(f"{folder}/index.html" for folder in folders)]
    assert page.all("img") == [
        {"src": "laptop/01_good/figures/grid.png", "alt": "Tulips"},
        {"src": "evening/03_flowers/figures/grid.png", "alt": "Tulips"},
    ]
    assert "1 held" in page.words and "1 did not hold" in page.words
    assert "gain over grey +1.50 dB" in page.words and "gain over grey -0.25 dB" in page.words
    assert "the paper 24.33 dB" in page.words and "2025-03-04" in page.words
    assert "Flowers" in page.words and "Not first" not in page.words


def test_a_page_leads_to_its_neighbours_its_other_runs_and_its_claims(root):
    names = {"01_good": "One", "02_two": "Two", "03_three": "Three"}
    for name, heading in names.items():
        metrics = {**tiny.METRICS, "notebook": name}
        pages.render(report(root, f"# {heading}", name=name, metrics=metrics))
    metrics = {**tiny.METRICS, "notebook": "02_two"}
    for name in ("02_two", ".02_two.partial"):  # a run is rendered before it has its own folder
        folder = report(root, "# Two", name=name, profile="evening", metrics=metrics)
        found = read(pages.render(folder)).all("a")
        neighbours = {a["rel"]: a["href"] for a in found if "rel" in a}
        one, three = (f"../../laptop/{name}/index.html" for name in ("01_good", "03_three"))
        assert neighbours == {"prev": one, "next": three}
        links = [a["href"] for a in found]
        assert "../../laptop/02_two/index.html" in links and "../../claims.html#02_two" in links
    first = read(pages.render(root / "reports/laptop/01_good"))
    assert [a["href"] for a in first.all("a") if "rel" in a] == ["../../laptop/02_two/index.html"]


def test_an_empty_index_says_how_to_fill_it(root):
    assert "colorlib run" in read(pages.render_index(root / "reports")).words


def test_a_grid_that_is_a_strip_leaves_the_card_to_another_figure(root):
    low, other = shown("grid", "One pair"), shown("scales", "Every scale")
    flowers = report(root, "# Flowers", "## Results", outputs=[low, other], metrics=tiny.METRICS)
    for name, size in (("grid", (100, 20)), ("scales", (100, 40))):
        (flowers / f"figures/{name}.png").write_bytes(png(*size))
    pages.render(flowers)
    (image,) = read(pages.render_index(root / "reports")).all("img")
    assert image["alt"] == "Every scale"


def test_a_notebook_that_compares_says_how_many_ways():
    metrics = copy.deepcopy(tiny.METRICS) | {"claims": []}
    metrics["results"]["other"] = metrics["results"]["ours"]
    assert pages.headline(metrics) == "2 ways on the same pictures"
    metrics["results"] = {"grey_floor": metrics["results"]["grey_floor"]}
    assert pages.headline(metrics) == ""


def test_headline_takes_the_main_row_and_its_paper():
    metrics = copy.deepcopy(tiny.METRICS)
    results = metrics["results"]
    results["better"] = {**results["ours"], "gain_over_grey": 9.0}
    assert pages.headline(metrics).startswith("ours: gain over grey +1.50 dB; PSNR 21.00 dB")
    metrics["paper"] = {"ours": {"gain_over_grey": 2.0}, "psnr": 3.0}
    assert pages.headline(metrics) == "ours: gain over grey +1.50 dB; the paper +2.00 dB"
    metrics["paper"] = {"A rival": {"psnr": 9.0}, "O-urs": {"psnr": 3.0}}
    assert pages.headline(metrics).endswith("; PSNR 21.00 dB, the paper 3.00 dB")
    metrics["results"] = {"grey_floor": results["grey_floor"]}
    assert pages.headline(metrics) == pages.headline({}) == ""


def test_the_results_table_stands_between_its_marks(root):
    metrics = copy.deepcopy(tiny.METRICS)
    metrics["results"] = {
        row: {**metrics["results"][row], "gain_over_grey": gain}
        for row, gain in (("ours", 1.5), ("mean_ab", -0.25), ("grey_floor", 0.0))
    }
    report(root, "# T", metrics=metrics)
    report(root, "# Not judged", metrics=metrics, profile="smoke")
    report(root, "# Not whole", metrics=metrics, name=".04_x.partial")
    readme = root / "README.md"
    readme.write_text("# A\n\n<!-- results -->\nold | row\n<!-- end of results -->\n\nwords é\n")
    for _ in range(2):  # written again it stays the same
        pages.write_readme(readme, root / "reports")
        before, _, rest = readme.read_text().partition("<!-- results -->\n")
        table, _, after = rest.partition("<!-- end of results -->")
        assert (before, after) == ("# A\n\n", "\n\nwords é\n")
        assert table == pages.results_table(root / "reports")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert [row[1] for row in rows] == ["row", "---", "grey floor", "mean ab", "ours"]
    assert {len(row) for row in rows} == {7}
    link = "reports/laptop/03_flowers/index.html"
    assert [row[0] for row in rows[2:]] == [f"[01_good, smoke]({link}), garden", "", ""]
    assert rows[2][2:] == ["21.00", "0.900", "0", "0.50", "9.0"]
    assert [row[4] for row in rows[3:]] == ["-0.25 [+0.00, +30.00]", "+1.50 [+0.00, +30.00]"]
