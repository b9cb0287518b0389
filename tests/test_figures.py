"""Figures: saved, closed, shown with words, the same bytes each time, and every picture sharp."""

from __future__ import annotations

import base64
import io
import json
import math
import shutil
import subprocess
from itertools import combinations
from unittest.mock import MagicMock

import matplotlib
import numpy as np
import pytest
import tiny
from browsing import BROWSER, needs_browser
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from PIL import Image

from colorlib import figures
from colorlib.training import History


@pytest.fixture(autouse=True)
def folder(tmp_path):
    before = matplotlib.rcParams.copy()
    figures.begin(tmp_path / "figures")
    yield tmp_path / "figures"
    matplotlib.rcParams.update(before)


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would be given to display: (content, metadata)."""
    seen = []
    monkeypatch.setattr("IPython.get_ipython", MagicMock())
    monkeypatch.setattr(
        "IPython.display.display", lambda content, metadata, raw: seen.append((content, metadata))
    )
    return seen


def pictures(count: int = 2, height: int = 16, width: int = 16, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def history(name: str = "unet", steps: int = 100) -> History:
    numbers = list(range(1, steps + 1))
    losses = {"l1": [1 / n for n in numbers], "gan": [math.nan, *(0.7 for _ in numbers[1:])]}
    validation = [{"step": n, "seconds": 1.0, "psnr": 20.0 + n} for n in numbers[:: steps // 5]]
    return History(name, numbers, losses, validation, 12.0)


def test_a_figure_is_saved_closed_and_shown_with_words(folder, shown):
    fig, axes = plt.subplots()
    axes.plot([1, 2])
    words = "A line that rises – gently"
    figures.show_figure(fig, "line-1", words)
    assert not plt.get_fignums()
    saved = (folder / "line-1.png").read_bytes()
    (content, metadata), = shown  # fmt: skip
    assert base64.b64decode(content["image/png"]) == saved
    assert content["text/plain"] == f"[line-1] {words}"
    assert metadata == {"image/png": {"alt": words, "file": "figures/line-1.png"}}
    picture = Image.open(io.BytesIO(saved))
    assert picture.text == {"Description": words}
    assert picture.info["dpi"] == pytest.approx((100, 100), abs=0.1)


def test_the_bytes_of_a_figure_repeat_and_a_credit_makes_it_higher_not_wider(folder, capsys):
    for name, credit in (("first", "word " * 80), ("second", "word " * 80), ("plain", "")):
        grid = figures.picture_grid({"ours": pictures(1, 64, 64)}, title="Same")
        figures.show_figure(grid, name, "Noise", credit=credit)
    first, second = ((folder / f"{name}.png").read_bytes() for name in ("first", "second"))
    assert first == second and b"Software" not in first and b"tIME" not in first
    assert capsys.readouterr().out.startswith("[first] Noise\n[second] Noise\n"), "no notebook"
    plain, credited = (np.asarray(Image.open(folder / f"{n}.png")) for n in ("plain", "first"))
    assert credited.shape[1] == plain.shape[1] and credited.shape[0] > plain.shape[0] + 40
    assert np.array_equal(credited[: plain.shape[0]], plain)
    below = credited[plain.shape[0] :]
    assert below.min() < 160, "the credit can be read"
    assert below[:, -5:].min() == 255 and below[-1:].min() == 255, "and is not cut"


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_a_figure_without_words_is_refused(alt, folder):
    with pytest.raises(ValueError, match="needs alt text"):
        figures.show_figure(plt.figure(), "a", alt)
    assert not plt.get_fignums() and not folder.exists()


@settings(max_examples=12)
@given(
    count=st.integers(1, 3),
    columns=st.integers(1, 7),
    height=st.sampled_from([1, 31, 64, 200, 500]),
    width=st.sampled_from([1, 48, 96, 400]),
    titled=st.booleans(),
)
def test_any_grid_fits_the_page_and_shows_all_its_pictures(count, columns, height, width, titled):
    """Each picture has a colour of its own: it must be there, with words on white around it."""
    colours = np.arange(1, count * columns + 1, dtype=np.uint8)[:, None] * np.uint8([9, 5, 3])
    flat = np.broadcast_to(colours[:, None, None], (count * columns, height, width, 3))
    batches = {f"method {n}": flat[n::columns] for n in range(columns)}
    rows = ["a long name of a picture"] * count if titled else None
    grid = figures.picture_grid(batches, {"method 0": ["20.1 dB"] * count}, "A finding " * 9, rows)
    assert grid.width <= figures.WIDTH
    shown = dict((colour, area) for area, colour in grid.getcolors(grid.width * grid.height))
    areas = {shown.get(tuple(colour), 0) for colour in colours.tolist()}
    assert len(areas) == 1 and min(areas) > 0
    pixels = np.asarray(grid)
    edge = np.concatenate([pixels[:5], pixels[-5:]]), pixels[:, :5], pixels[:, -5:]
    assert all((part == 255).all() for part in edge), "nothing is cut at the border"


def test_small_pictures_are_enlarged_enough_to_see_them():
    flat = np.full((1, 48, 48, 3), (10, 200, 30), np.uint8)
    shown = figures.picture_grid({"truth": flat})
    assert (np.asarray(shown) == flat[0, 0, 0]).all(-1).sum() == 150 * 150


@given(count=st.integers(1, 9), methods=st.integers(1, 9), size=st.sampled_from([32, 128, 300]))
def test_rows_of_methods_fit_the_page_and_hold_every_picture(count, methods, size):
    colours = np.arange(1, count * methods + 1, dtype=np.uint8)[:, None] * np.uint8([7, 5, 3])
    flat = np.broadcast_to(colours[:, None, None], (count * methods, size, size, 3))
    rows = {f"method {n}": flat[n::methods] for n in range(methods)}
    page = figures.picture_rows(rows, {"method 0": ["+1.2 dB"] * count}, "A finding")
    shown = dict((colour, area) for area, colour in page.getcolors(page.width * page.height))
    beside = count if count >= methods else methods if methods <= 6 else (methods + 1) // 2
    most = min(190, max(112, 900 // methods)) if count >= methods else figures.WIDTH
    side = min(most, (figures.WIDTH - figures.GAP) // beside - figures.GAP)
    assert {shown.get(tuple(c)) for c in colours.tolist()} == {side**2}
    assert page.width <= figures.WIDTH


@pytest.mark.parametrize("part", ["head", "captions", "title", "row_titles"])
def test_each_text_of_a_grid_is_drawn(part):
    def drawn(**texts):
        parts = {"head": "ours", "captions": "1 dB", "title": "We won", "row_titles": "one"} | texts
        captions, rows = {parts["head"]: [parts["captions"]]}, [parts["row_titles"]]
        columns = {parts["head"]: np.full((1, 64, 64, 3), 255, np.uint8)}
        return np.asarray(figures.picture_grid(columns, captions, parts["title"], rows))

    assert (drawn() < 128).sum() > (drawn(**{part: " "}) < 128).sum() + 30


@pytest.mark.parametrize(
    ("columns", "captions", "row_titles"),
    [
        ({}, None, None),
        ({"a": pictures(0)}, None, None),
        ({"a": pictures(2), "b": pictures(3)}, None, None),
        ({"a": pictures(2)}, {"a": ["one"]}, None),
        ({"a": pictures(2)}, {"b": ["one", "two"]}, None),
        ({"a": pictures(2)}, None, ["one"]),
    ],
)
def test_unequal_columns_are_refused(columns, captions, row_titles):
    with pytest.raises(ValueError):
        figures.picture_grid(columns, captions, "Title", row_titles)


def test_a_palette_shows_its_colours_by_their_shares():
    colours = np.array([[1.0, 0, 0], [0, 0, 1.0]])
    strip = np.asarray(figures.palette_strip({"ours": colours}, {"ours": [3, 1]}, "Red"))
    red, blue = ((strip == 255 * colour).all(axis=2).sum() for colour in colours)
    assert red == 3 * blue > 0


def squares(count: int = 4) -> list[np.ndarray]:
    return [np.full((16, 16, 3), 40 * n, np.uint8) for n in range(count)]


LABELS = ["first", "a & b", "</script>", "last"]


def test_a_slider_stands_as_its_last_frame_without_a_script(folder, shown):
    for frames in (squares()[::-1], squares(), squares()):
        figures.slider(frames, LABELS, "steps", "Squares", title="Lighter")
    turned, (content, metadata), again = shown
    assert again == (content, metadata), "the same frames give the same page"
    (box,) = BeautifulSoup(content["text/html"], "html.parser").find_all(recursive=False)
    assert box["class"] == ["slider"] and len(box.find_all("script")) == 1
    image = Image.open(io.BytesIO(base64.b64decode(box.img["src"].partition("base64,")[2])))
    assert image.size == (16, 16) and image.getpixel((0, 0)) == (120, 120, 120)
    assert box.img["alt"] == "Squares (last)" and box.span.text == "last"
    assert box.input["type"] == "range" and box.input.has_attr("hidden")
    assert "Lighter" in box.text
    assert metadata == {"image/png": {"alt": "Squares (last)", "file": "figures/steps.png"}}
    saved = np.asarray(Image.open(folder / "steps.png"))
    assert (saved[30:350] == 120).all(axis=2).sum() > 300 * 320
    assert content["text/plain"] == "[steps] Squares"
    assert BeautifulSoup(turned[0]["text/html"], "html.parser").div["id"] != box["id"]
    for few, labels in (([], []), (squares(), ["one"])):
        with pytest.raises(ValueError, match="one each"):
            figures.slider(few, labels, "steps", "Squares")


def test_many_large_frames_stay_small_in_bytes_and_are_shown_as_large_as_they_are(shown):
    frames = [figures.picture_grid({"noise": pictures(2, 90, 90, seed=n)}) for n in range(5)]
    frames[0] = frames[0].crop((0, 0, 100, 100))
    figures.slider(frames, list("abcde"), "noise", "Noise")
    page = shown[0][0]["text/html"]
    assert 50_000 < len(page) < 310_000
    assert int(BeautifulSoup(page, "html.parser").img["width"]) == frames[1].width


MOVED = """<body><script>addEventListener("load", () => {
  const [input, image] = ["input", "img"].map(tag => document.querySelector(tag));
  const seen = [...Array(4).keys()].map(place => {
    input.value = place; input.dispatchEvent(new Event("input"));
    const told = [document.querySelector("span").textContent, input.getAttribute("aria-valuetext")];
    return [...told, image.alt, image.src.length > 99, input.hidden];
  });
  document.documentElement.dataset.seen = JSON.stringify(seen);
})</script>"""


def seen_by_browser(tmp_path, content: str) -> list:
    """Open a page in the browser; return what its script has seen."""
    page = tmp_path / "page.html"
    page.write_text(content, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/own"]
    command = [BROWSER, *options, "--virtual-time-budget=2000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return json.loads(BeautifulSoup(done.stdout, "html.parser").html["data-seen"])


@needs_browser
def test_a_slider_moves_in_a_browser(tmp_path, shown):
    figures.slider(squares(), LABELS, "steps", 'Squares "grey"')
    seen = seen_by_browser(tmp_path, MOVED + shown[0][0]["text/html"])
    assert seen == [[label, label, f'Squares "grey" ({label})', True, False] for label in LABELS]


DRAGGED = """<body><script>addEventListener("load", () => {
  const found = [".pair", "input", "img + img"].map(name => document.querySelector(name));
  const [pair, input, painting] = found;
  const seen = [50, 0, 100].map((place, turn) => {
    if (turn) { input.value = place; input.dispatchEvent(new Event("input")); }
    const {left, right} = document.querySelector("i").getBoundingClientRect();
    const at = ((left + right) / 2 - pair.getBoundingClientRect().left) / pair.clientWidth;
    const {clipPath} = getComputedStyle(painting);
    return [input.getAttribute("aria-valuetext"), Math.round(100 * at), clipPath, input.hidden];
  });
  document.documentElement.dataset.seen = JSON.stringify(seen);
})</script>"""


@needs_browser
def test_a_handle_uncovers_the_painting(tmp_path, shown):
    figures.slider(squares()[:2], ["grey", "painted"], "best", "A rose", kind="handle")
    content = shown[0][0]["text/html"]
    (box,) = BeautifulSoup(content, "html.parser").find_all(recursive=False)
    assert [image["alt"] for image in box.find_all("img")] == ["A rose (grey)", "A rose (painted)"]
    assert box.input.has_attr("hidden") and "--at: 0%" in box.style.string  # without a script: all
    seen = seen_by_browser(tmp_path, DRAGGED + content)
    places = {50: "50 % painted", 0: "100 % painted", 100: "0 % painted"}
    cuts = {at: f"inset(0px 0px 0px {at}%)" for at in places}
    assert seen == [[told, at, cuts[at], False] for at, told in places.items()]


def test_curves_show_raw_and_smooth_losses_beside_the_floors():
    named, floors = {"U-Net": history(), "ResNet": history("other")}, {"grey": 25.0, "mean": 30.0}
    fig = figures.curves(named, ["l1", "gan"], "Both fall", "loss", "psnr", lines=floors)
    losses, validation = fig.axes
    strong, faint = losses.lines[:4], losses.lines[4:]
    labels = [line.get_label() for line in strong]
    assert labels == ["U-Net: l1", "U-Net: gan", "ResNet: l1", "ResNet: gan"]
    colours = [[line.get_color() for line in lines] for lines in (strong, faint)]
    assert colours[0] == colours[1] and len(set(colours[0])) == 4
    assert all(line.get_alpha() < 0.5 for line in faint)
    assert [line.get_label() for line in validation.lines] == [*named, *floors]
    assert validation.lines[0].get_xydata()[0].tolist() == [1.0, 21.0]
    assert [set(line.get_ydata()) for line in validation.lines[2:]] == [{25.0}, {30.0}]
    assert fig.get_suptitle() == "Both fall" and losses.get_ylabel() == "loss"


def test_curves_of_short_runs_one_key_and_a_spike():
    fig = figures.curves(History("a", [1], {"l1": [0.5]}), "l1", "One step", "loss", log=True)
    assert fig.axes[0].lines[0].get_ydata().tolist() == [0.5]
    spiky = history()
    spiky.losses["gan"][50] = 500.0
    assert 0.7 < figures.curves(spiky, "gan", "Spike", "loss").axes[0].get_ylim()[1] < 200
    with pytest.raises(ValueError, match="no history holds"):
        figures.curves(history(), "missing", "Title", "loss")


BOXES = {
    "G": (0, 0, "generator", "network"),
    "ab": (1.2, 0, "painted\nab", "data"),
    "D": (2.4, 0, "critic", "network"),
    "l1": (1.2, -1.2, "L1 loss", "loss"),
}
ARROWS = [
    ("G", "ab", "2 channels"),
    ("ab", "D", ""),
    ("ab", "l1", "beside"),
    *[("l1", "G", "teaches G", -0.2), ("D", "G", "through D", 0.3)],
]


def test_a_drawing_of_what_flows_where_has_texts_beside_their_arrows(folder):
    fig = figures.flow(BOXES, ARROWS, title="A finding " * 9)
    fig.draw_without_rendering()
    (axes,) = fig.axes
    texts = axes.texts[: len(BOXES)]
    boxes = dict(zip(BOXES, (t.get_bbox_patch().get_window_extent() for t in texts), strict=True))
    shafts, labels = axes.texts[len(BOXES) :: 2], axes.texts[len(BOXES) + 1 :: 2]
    assert [label.get_text() for label in labels] == [arrow[2] for arrow in ARROWS]
    for (start, end, *bent), shaft in zip(ARROWS, shafts, strict=True):
        dashed = shaft.arrow_patch.get_linestyle() == "--"
        assert dashed == (len(bent) == 2)
        line = shaft.arrow_patch.get_path().vertices  # in pixels, clipped at the boxes' edges
        assert all(boxes[n].padded(20).count_contains(line) for n in (start, end))
    kept = [label.get_window_extent() for label in labels if label.get_text()]
    for one, other in combinations([*boxes.values(), *kept], 2):
        assert not one.overlaps(other)
    above = {label.get_text(): label.get_window_extent().y0 for label in labels}
    assert above["through D"] > boxes["G"].y1 and above["teaches G"] < boxes["G"].y0
    figures.show_figure(fig, "flow", "What flows where")
    assert Image.open(folder / "flow.png").width <= figures.WIDTH


@pytest.mark.parametrize("kind", ["png", "jpg"])
@pytest.mark.parametrize("profile", ["overnight", "paper"])
@pytest.mark.parametrize("name", ["03_x", "studies/03_x"])
def test_a_figure_of_a_larger_report_is_shown_with_its_words(
    kind, profile, name, tmp_path, folder, shown, monkeypatch, capsys
):
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    tiny.keep(source := tmp_path / "notebooks" / f"{name}.ipynb", tiny.notebook("show()"))
    figures.show_committed(name, "grid")
    report = tmp_path / "reports" / profile / name
    about = {"alt": "The tulip turns orange", "file": f"figures/grid.{kind}"}
    told = {"image/jpeg": about | {"file": "figures/a.png"}}, {"text/html": {}, "image/jpeg": about}
    executed = tiny.notebook("show()")
    executed["cells"][0]["outputs"] = [{"metadata": metadata} for metadata in told]
    tiny.keep(report / "notebook.ipynb", executed)
    (report / "figures").mkdir()
    picture = Image.fromarray(np.full((20, 30, 3), 99, np.uint8))
    picture.save(report / "figures" / f"grid.{kind}")
    for wanted in ("grid", "curves"):
        figures.show_committed(name, wanted)
    ((content, metadata),) = shown
    assert metadata["image/png"] == about | {"file": f"figures/{profile}_grid.png"}
    assert "image/png" in content
    saved = Image.open(folder / f"{profile}_grid.png")
    assert saved.size == (30, 20) and saved.text == {"Description": about["alt"]}
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and said[0].startswith("grid ") and said[1].startswith("curves ")
    assert all(f"python -m colorlib run {name} --profile overnight" in line for line in said)
    if profile == "paper":
        shutil.copytree(report, tmp_path / "reports" / "overnight" / name)
    for told_by, place in (("", profile), ("overnight", "overnight")):
        about = {"metadata": {"colorlib": {"told_by": told_by} if told_by else {}}}
        tiny.keep(source, tiny.notebook("show()") | about)
        figures.show_committed(name, "grid")
        assert shown[-1][1]["image/png"]["file"] == f"figures/{place}_grid.png"


ROWS = [
    {"row": "grey <floor>", "psnr": 19.812, "ssim": 0.8512, "n": 120},
    {"row": "unet & co", "psnr": -1.4, "ssim": None, "n": 12000, "gan": True},
]


def test_a_table_is_accessible_html_with_a_plain_twin(shown):
    figures.table(ROWS, "Scores & intervals", "scores")
    soup = BeautifulSoup(shown[0][0]["text/html"], "html.parser")
    assert soup.table["id"] == "scores" and soup.caption.text == "Scores & intervals"
    heads = [cell.text for cell in soup.find_all("th", scope="col")]
    assert heads == ["row", "psnr", "ssim", "n", "gan"]
    assert [c.text for c in soup.find_all("th", scope="row")] == ["grey <floor>", "unet & co"]
    texts = [cell.text for cell in soup.find_all("td")]
    assert texts[:5] == ["19.81", "0.851", "120", "–", "\N{MINUS SIGN}1.40"]
    assert texts[5:] == ["–", "12,000", "yes"]
    sides = {cell.text: cell["style"] for cell in soup.find_all(["th", "td"])}
    assert sides["19.81"] == sides["psnr"] == "text-align:right"
    assert sides["yes"] == sides["row"] == "text-align:left"
    plain = shown[0][0]["text/plain"].splitlines()
    assert plain[0] == "Scores & intervals" and plain[2].split(" | ") == heads
    assert plain[3].startswith("grey <floor> | 19.81 | 0.851")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.00012, 0.004], ["0.00012", "0.004"]),
        ([0.5, 0.25], ["0.500", "0.250"]),
        ([150.04, -3.0], ["150.0", "\N{MINUS SIGN}3.0"]),
        ([1234567.8, -0.2], ["1,234,568", "0"]),
        ([2018, 12800], ["2018", "12,800"]),
        ([np.float32(0.5), np.int64(3)], ["0.50", "3"]),
        ([math.inf, None], ["–", "–"]),
        ([True, "<b>"], ["yes", "<b>"]),
        ([], []),
    ],
)
def test_numbers_of_a_column_are_rounded_alike_and_texts_escaped(values, words, shown):
    figures.table([{"row": "x", "value": value} for value in values], "Numbers & more")
    soup = BeautifulSoup(shown[0][0]["text/html"], "html.parser")
    assert [cell.text for cell in soup.find_all("td")] == words and not soup.find_all("b")
    with pytest.raises(ValueError, match="caption"):
        figures.table([{"a": 1}], " ")
