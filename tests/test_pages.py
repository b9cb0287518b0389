"""Report pages: readable without a network, by eye and by ear."""

import base64
import io
import json
import re

import pytest
import tiny
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from colorlib.batch import pages
from colorlib.batch.plan import RunError


def png(width: int = 3, height: int = 2) -> bytes:
    """Return a grey PNG of that size."""
    content = io.BytesIO()
    Image.new("L", (width, height), 128).save(content, "PNG")
    return content.getvalue()


def displayed(about: dict | None = None, **data: str) -> dict:
    """Return an output of display, given its content by kind."""
    kinds = {"html": "text/html", "png": "image/png", "jpeg": "image/jpeg"}
    named = {kinds[kind]: content for kind, content in data.items()}
    metadata = {next(iter(named)): about} if about else {}
    return {"output_type": "display_data", "data": named, "metadata": metadata}


def figure(name: str = "grid", alt: str = "The red tulip turns orange", kind: str = "png") -> dict:
    """Return what show_figure leaves in a notebook."""
    about = {"alt": alt, "file": f"figures/{name}.png"}
    return displayed(about, **{kind: base64.b64encode(png()).decode()})


def report(root, *cells, outputs=(), name="03_flowers", profile="laptop", metrics=None):
    """Write an executed notebook, its figures and numbers; return the report folder."""
    folder = root / "reports" / profile / name
    (folder / "figures").mkdir(parents=True)
    notebook = tiny.notebook(*cells, "show()")
    notebook["cells"][-1]["outputs"] = list(outputs)
    (folder / "notebook.ipynb").write_text(json.dumps(notebook))
    for about in (each for output in outputs for each in output.get("metadata", {}).values()):
        if "file" in about:
            (folder / about["file"]).write_bytes(png())
    if metrics is not None:
        about = {"notebook": name, "profile": profile, "claims": []}
        (folder / "metrics.json").write_text(json.dumps(metrics | about))
        (folder / "run.json").write_text(json.dumps({"date": "2025-03-04T05:06:07+00:00"}))
    return folder


def read(file) -> BeautifulSoup:
    return BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")


def links(page: BeautifulSoup) -> list[str]:
    return [link["href"] for link in page.find_all("a")]


def pictures(page: BeautifulSoup) -> list[tuple[str, str]]:
    return [(image["src"], image["alt"]) for image in page.find_all("img")]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    for name in ("01_one", "02_two", "03_flowers", "studies/02_two", "studies/03_flowers"):
        tiny.write(tmp_path, name, "# Flowers", 'MAIN_ROW: str = "ours"')
    return tmp_path


def test_a_page_can_be_read_by_everyone(root):
    cells = ("# Auto *colorization*\n\nA claim.", "#### Data", "# Second title", "## Data")
    folder = report(root, *cells, outputs=[figure()], metrics=tiny.METRICS)
    page = read(pages.render(folder))
    assert page.html["lang"] == "en" and page.title.string == "Auto colorization · Laptop run"
    assert [int(h.name[1]) for h in page.find_all(re.compile("^h[1-6]$"))] == [1, 2, 2, 2]
    assert links(page)[0] == "#main" and page.main["id"] == "main"
    ids = [element["id"] for element in page.find_all(id=True)]
    assert len(ids) == len(set(ids)) and {"data", "data-2"} <= set(ids)
    assert {link[1:] for link in links(page) if link.startswith("#")} <= set(ids)
    assert "prefers-color-scheme: dark" in page.style.string
    bar = page.header.get_text()
    assert "gain over grey +1.50 dB" in bar and "2025-03-04" in bar
    heard = [link for link in page.select("h1 a, h2 a") if link.get("aria-hidden") != "true"]
    assert heard == [], "a heading's name is its words"


@pytest.mark.parametrize("kind", ["png", "jpeg"])  # the runner keeps a small JPEG in the notebook
def test_pictures_link_the_report_s_own_files(root, kind):
    folder = report(root, "# T", outputs=[figure(kind=kind)], metrics=tiny.METRICS)
    lead, image = read(pages.render(folder)).find_all("img")  # it leads, and stands in its place
    size = {"width": "3", "height": "2"}
    about = {"src": "figures/grid.png", "alt": "The red tulip turns orange"}
    assert lead.attrs == about and image.attrs == about | size
    assert lead.parent["href"] == image.parent["href"] == "figures/grid.png"
    (card,) = read(pages.render_index(root / "reports")).find_all("img")
    assert card["src"] == "laptop/03_flowers/figures/grid.png"


def test_a_picture_without_a_file_is_carried(root):
    output = displayed({"alt": "A tulip"}, png=base64.b64encode(png()).decode())
    ((src, alt),) = pictures(read(pages.render(report(root, "# T", outputs=[output]))))
    assert src.startswith("data:image/png;base64,") and alt == "A tulip"


@pytest.mark.parametrize(
    "cell, outputs",
    [
        ("# T\n\n![](figures/a.png)", []),
        ('# T\n\n<img src="figures/a.png">', []),
        ("# T", [figure(alt=" ")]),
        ("# T", [displayed(html='<div class="slider"><img src="data:,"></div>')]),
    ],
)
def test_a_picture_without_alt_text_fails(root, cell, outputs):
    folder = report(root, cell, outputs=outputs)
    with pytest.raises(RunError, match="a picture under 'T' has no alt text"):
        pages.render(folder)
    assert not (folder / "index.html").exists()


def test_nothing_is_asked_of_any_server_and_of_scripts_only_a_slider_s_stays(root):
    slider = """<div class="slider"><img alt="A frame" src="data:image/png;base64,AA=="/>
    <input oninput="show(this)" type="range"/><script>const frames = ["a"] && 1 < 2;</script>
    </div><script src="https://a.example/x.js"></script><script>other()</script>"""
    equation = "$$\\mathbb{E}_x[\\log D(x)] \\tag{2}$$ and $x_i$"
    cell = f"# T\n\n{equation}\n\n[a paper](https://b.example)"
    page = read(pages.render(report(root, cell, outputs=[displayed(html=slider)])))
    kept = [script.string for script in page.main.find_all("script")]
    assert kept == ['const frames = ["a"] && 1 < 2;'] and not page.select("script[src]")
    assert page.find("input")["oninput"] == "show(this)" and not page.find_all(["link", "iframe"])
    assert len(page.find_all("math")) == 2 and page.find(class_="equation").span.string == "(2)"
    assert "https://b.example" in links(page)
    policy = page.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    assert "default-src 'none'" in policy and "http" not in policy


def test_a_handle_leads(root):
    handle = '<div class="slider handle"><img alt="A rose" src="data:,"/></div>'
    cells = ("# T\n\nA claim.", "## In short", "## Results")
    main = read(pages.render(report(root, *cells, outputs=[displayed(html=handle)]))).main
    order = [element.name for element in main.find_all(["p", "img", "h2", "details"])]
    assert order == ["img", "p", "h2", "h2", "details"]


def test_the_picture_of_in_short_leads_and_is_not_shown_twice(root):
    cells = ("# T\n\nA claim.", "## In short\n\n![A rose](rose.png)\n\nWhy", "## Results")
    main = read(pages.render(report(root, *cells, outputs=[figure()]))).main
    order = [element.get("src") or element.name for element in main.find_all(["p", "img", "h2"])]
    assert order == ["p", "rose.png", "p", "h2", "p", "h2", "figures/grid.png"]
    page = read(
        pages.render(report(root, "# T", "## A", "## B", name="01_one", outputs=[figure()]))
    )
    assert page.img.find_previous(["h1", "h2"]).name == "h1", "else its card's"


def test_a_page_says_at_a_glance_what_came_of_it(root):
    verdicts = ["supported", "inconclusive", "inconclusive"]
    claims = [tiny.METRICS["claims"][0] | {"claim": v, "verdict": v} for v in verdicts]
    claims[2]["claim"] = "another"
    tiny.write(root, "03_flowers", "# Flowers", 'MAIN_ROW: str = "ours"', learned="That much.")
    flowers = {"metrics": tiny.METRICS, "outputs": [figure()]}
    lesson = report(root, "# T", name="03_flowers", profile="overnight", **flowers)
    run = {"seconds": {"a": 60, "b": 5}, "machine": {"device": "cpu"}}
    (lesson / "run.json").write_text(json.dumps(run))
    studies = report(root, "# T: studies\n\n## In short", name="studies/03_flowers", metrics={})
    about = {**tiny.METRICS, "notebook": "studies/03_flowers", "profile": "laptop"}
    (studies / "metrics.json").write_text(json.dumps(about | {"claims": claims}))
    pages.render(lesson)
    page = read(pages.render(studies))
    assert page.title.string == "T: studies · Laptop run"
    told = (
        "What we learned. That much. Of the paper's claims: 1 supported, 2 inconclusive; claim by"
    )
    words = page.find(class_="glance").get_text(" ", strip=True)
    assert words == f"{told} claim ."
    place = "../../../overnight/03_flowers"
    assert pictures(page) == [(f"{place}/figures/grid.png", "The red tulip turns orange")]
    assert page.img.parent["href"] == f"{place}/index.html"
    page = read(pages.render(lesson))
    assert (
        f"{told} claim . Training time: 1 min 5 s, all its networks together, on the CPU."
        in page.find(class_="glance").get_text(" ", strip=True)
    )
    assert "../../claims.html#03_flowers" in links(page)


def test_links_are_mended_for_the_report_s_place(root):
    (root / "data").mkdir()
    (root / "data" / "README.md").write_text("data")
    tiny.write(root, "06_six", "# Six")
    text = "[six](06_six.ipynb#results) [more](studies/03_flowers.ipynb) [one](01_one.ipynb)"
    text += "[data](../data/README.md) [run](../reports/overnight/01_one/notebook.ipynb)"
    text += "[x](#t) [gone](nowhere.md)"
    pages.render(report(root, "# One", name="01_one", profile="overnight"))
    page = read(pages.render(report(root, f"# T\n\n{text}")))
    # studies may never run: until their page is there, their source
    wanted = ["../06_six/index.html#results", "../../../notebooks/studies/03_flowers.ipynb"]
    wanted += [
        "../../overnight/01_one/index.html",
        "../../../data/README.md",
        "../../overnight/01_one/notebook.ipynb",
        "#t",
        "nowhere.md",
    ]
    assert [link["href"] for link in page.main.p.find_all("a")] == wanted
    lesson = "# S\n\n[lesson](../03_flowers.ipynb)"
    back = report(root, lesson, name="studies/03_flowers", metrics={})
    found = links(read(pages.render(back)))
    assert "../../03_flowers/index.html" in found and "../../../index.html" in found
    page = read(pages.render(root / "reports/laptop/03_flowers"))
    assert "../studies/03_flowers/index.html" in links(page)


def test_printed_pieces_are_joined_and_overwritten_lines_dropped(root):
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": "step 1\rstep 2\r"},
        {"output_type": "stream", "name": "stdout", "text": "step 3\ndone <b>\n"},
        {"output_type": "stream", "name": "stderr", "text": "a warning"},
    ]
    page = read(pages.render(report(root, "# T", outputs=outputs)))
    printed = [pre.get_text() for pre in page.find_all("pre", class_="printed")]
    assert printed == ["step 3\ndone <b>\n", "a warning"]
    assert page.find(class_="messages").summary.string == "Messages"


def test_what_trainings_took_is_one_folded_log_a_cell(root):
    took = "losses, L1, seed 0: 400 steps in 24 s (0.06 s a step)"
    told = [displayed(), displayed(), displayed(html="<table></table>"), displayed(), displayed()]
    lines = [took, f"{took}, finished before", "one row", f"{took}, resumed", "L1 took 400 steps"]
    for output, text in zip(told, lines, strict=True):
        output["data"]["text/plain"] = text
    printed = {"output_type": "stream", "name": "stdout", "text": f"{took}\n{took}\n"}
    mixed = {**printed, "text": f"{took}\nand more\n"}
    page = read(pages.render(report(root, "# T", outputs=[*told, printed, told[2], mixed])))
    log = page.find("details", class_="messages")
    assert "open" not in log.attrs and log.summary.string == "Training log, 5 lines"
    assert log.pre.get_text().splitlines() == [took, lines[1], lines[3], took, took]
    shown = [pre.get_text() for pre in page.select(".printed") if not pre.find_parent("details")]
    assert shown == ["L1 took 400 steps", mixed["text"]]


def test_what_is_wider_than_its_place_can_be_reached_by_keys_and_has_a_name(root):
    table = displayed(html="<table><caption>Scores &amp; floors</caption></table>")
    cells = ("# T\n\n$$x \\tag{2}$$",)
    page = read(pages.render(report(root, *cells, outputs=[table, displayed(html="<b>x</b>")])))
    box, plain = page.find_all(class_="shown")
    named = {"role": "region", "tabindex": "0", "aria-label": "Scores & floors"}
    assert named.items() <= box.attrs.items() and "tabindex" not in plain.attrs
    assert page.find(class_="equation")["tabindex"] == "0"


def test_code_is_folded_says_what_it_defines_and_one_button_opens_all(root):
    cells = ("%%define\nclass A:\n    def own(self): ...\n\ndef f(): ...", "short()")
    page = read(pages.render(report(root, "# T", *cells)))
    pieces = page.find_all("details", class_="code")
    assert not any("open" in piece.attrs for piece in pieces)
    told = [piece.summary.get_text() for piece in pieces]
    assert told == ["Code: A, f", "Code", "Code"]  # the last is show()
    button = page.find("button", id="code")
    assert button.string == "Show all code" and "hidden" in button.attrs  # until a script runs


@pytest.mark.parametrize(
    ("latex", "spaces"),
    [
        (r"\arg\min_G \max_D \mathcal{L}(G, D)", 0),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", 0),
        (r"\lVert y - \hat{y} \rVert_F^2 \le 1", 0),
        *((r"\log x", 1), (r"\log D(x)", 1), (r"\log\hat{y}", 1)),
        *((r"\log_2 x", 0), (r"\log(x)", 0)),  # as TeX does
    ],
)
def test_what_the_papers_write_becomes_mathml(latex, spaces):
    shown = pages.mathml(latex)
    assert shown.startswith("<math") and shown.count("<mspace") == spaces


@given(st.text(alphabet="\\{}^_&x1<arlefticn ", max_size=25))
@settings(deadline=None, max_examples=80)
def test_any_equation_stays_readable(latex):
    shown = pages.mathml(latex)
    assert shown.startswith(("<math", '<code class="tex">'))
    if shown.startswith("<code"):
        assert BeautifulSoup(shown, "html.parser").get_text() == latex.strip()


def test_the_index_has_a_card_for_each_paper_and_a_link_for_each_run(root):
    flowers = {"metrics": tiny.METRICS, "outputs": [figure("curves", "A loss"), figure()]}
    places = ["overnight/03_flowers", "laptop/03_flowers", "overnight/studies/03_flowers"]
    for place in (*places, "smoke/03_flowers", "local/03_flowers"):
        profile, _, name = place.partition("/")
        pages.render(report(root, f"# {profile}", name=name, profile=profile, **flowers))
    tiny.keep(root / "reports/laptop/.04_x.partial/index.html", "")
    pages.render(report(root, "# One", name="01_one", metrics=tiny.METRICS))
    page = read(pages.render_index(root / "reports"))
    folders = [*["laptop/01_one"] * 2, *[places[0]] * 2, *places]  # picture, title, runs
    bar = ["claims.html", "results.html", "#reading"]
    assert links(page) == ["#main", *bar, *(f"{folder}/index.html" for folder in folders)]
    fronts = page.find_all(class_="front")
    assert {(link["tabindex"], link["aria-hidden"]) for link in fronts} == {("-1", "true")}
    assert pictures(page) == [(f"{places[0]}/figures/grid.png", "The red tulip turns orange")]
    assert [h.string for h in page.select(".card h2")] == ["One", "overnight"]
    runs = [li.get_text(" ", strip=True) for li in page.find_all(class_="runs")[1].find_all("li")]
    gain = "Overnight gain over grey +1.50 dB [+0.00, +30.00], mean colour +1.50; PSNR 21.00 dB"
    assert runs[0].startswith(f"{gain}, the paper") and "; 12 pictures flowers ·" in runs[0]
    assert runs[2].startswith("Overnight studies") and runs[1].endswith("· 2025-03-04")
    own = root / "reports/laptop/03_flowers/notebook.ipynb"  # it names this run its own
    notebook = json.loads(own.read_text())
    notebook["metadata"]["colorlib"] = {"told_by": "laptop"}
    own.write_text(json.dumps(notebook))
    (_, card) = read(pages.render_index(root / "reports")).select(".card h2")
    assert card.string == "laptop"


def test_a_page_leads_to_its_other_runs(root):
    pages.render(report(root, "# 02", name="02_two", metrics=tiny.METRICS))
    pages.render(report(root, "# S", name="studies/02_two", profile="paper", metrics={}))
    (root / "reports/laptop/02_two").rename(root / "reports/laptop/.02_two.partial")
    page = read(pages.render(root / "reports/laptop/.02_two.partial"))  # before it is whole
    assert "../../paper/studies/02_two/index.html" in links(page)
    assert page.find(class_="tabs").get_text(" ", strip=True) == "Lesson Studies (paper)"
    assert page.find(attrs={"aria-current": "page"}).string == "Lesson"
    pages.render(report(root, "# S", name="studies/02_two", metrics={}))
    page = read(pages.render(root / "reports/laptop/.02_two.partial"))
    own = [link["href"] for link in page.find(class_="tabs").find_all("a")]
    assert own == ["index.html", "../../laptop/studies/02_two/index.html"]
    page = read(pages.render(root / "reports/laptop/studies/02_two"))
    assert "../../../paper/studies/02_two/index.html" in links(page)  # no lesson: no tabs
    assert not page.find(class_="tabs")


def test_an_empty_index_says_how_to_fill_it(root):
    assert "colorlib run" in read(pages.render_index(root / "reports")).get_text()
