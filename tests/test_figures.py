"""Figures: saved, closed, shown with words, the same bytes each time, and every picture sharp."""

from __future__ import annotations

import base64
import html.parser
import io
import math

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from PIL import Image

from colorlib import figures
from colorlib.training import History


@pytest.fixture(autouse=True)
def style(tmp_path):
    before = matplotlib.rcParams.copy()
    figures.begin(tmp_path / "figures")
    yield
    matplotlib.rcParams.update(before)


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would be given to display: (content, metadata)."""
    seen = []

    def keep(content, metadata=None):
        seen.append((content, metadata))

    monkeypatch.setattr(figures, "_display", keep)
    return seen


def pictures(count: int = 2, height: int = 16, width: int = 16, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def history(name: str = "unet", steps: int = 100) -> History:
    numbers = list(range(1, steps + 1))
    losses = {"l1": [1 / n for n in numbers], "gan": [math.nan, *(0.7 for _ in numbers[1:])]}
    validation = [{"step": n, "seconds": 1.0, "psnr": 20.0 + n} for n in numbers[:: steps // 5]]
    return History(name, numbers, losses, validation, 12.0)


# ---------------------------------------------------------------------------------- show_figure


def test_a_figure_is_saved_closed_and_shown_with_words(tmp_path, shown):
    fig, axes = plt.subplots()
    axes.plot([1, 2])
    figures.show_figure(fig, "line-1", "A line that rises – gently")
    assert not plt.get_fignums()
    saved = (tmp_path / "figures" / "line-1.png").read_bytes()
    (content, metadata), = shown  # fmt: skip
    assert base64.b64decode(content["image/png"]) == saved
    assert content["text/plain"] == "[line-1] A line that rises – gently"
    alt = {"alt": "A line that rises – gently", "file": "figures/line-1.png"}
    assert metadata == {"image/png": alt}
    picture = Image.open(io.BytesIO(saved))
    assert picture.text == {"Description": "A line that rises – gently"}
    assert picture.info["dpi"] == pytest.approx((100, 100), abs=0.1)


def test_the_bytes_of_a_figure_repeat(tmp_path, shown):
    for name in ("first", "second"):
        grid = figures.picture_grid({"ours": pictures()}, title="Same")
        figures.show_figure(grid, name, "Noise", credit="By us")
    first, second = (tmp_path / "figures" / f"{name}.png" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    assert b"Software" not in first.read_bytes() and b"tIME" not in first.read_bytes()


@pytest.mark.parametrize(("name", "alt"), [("a", ""), ("a", "  \n"), ("a/b", "x"), ("", "x")])
def test_a_figure_without_words_or_with_a_bad_name_is_refused(name, alt, tmp_path):
    with pytest.raises(ValueError):
        figures.show_figure(plt.figure(), name, alt)
    assert not plt.get_fignums() and not (tmp_path / "figures").exists()


def test_a_folder_is_needed_first(monkeypatch):
    monkeypatch.setattr(figures, "_folder", None)
    with pytest.raises(RuntimeError, match="begin"):
        figures.show_figure(plt.figure(), "a", "words")


def test_a_credit_makes_the_picture_higher_not_wider(tmp_path, shown):
    grid = {"ours": pictures(1, 64, 64)}
    figures.show_figure(figures.picture_grid(grid), "plain", "Noise")
    figures.show_figure(figures.picture_grid(grid), "credited", "Noise", credit="word " * 80)
    plain, credited = (
        np.asarray(Image.open(tmp_path / "figures" / f"{name}.png"))
        for name in ("plain", "credited")
    )
    assert credited.shape[1] == plain.shape[1] and credited.shape[0] > plain.shape[0] + 40
    assert np.array_equal(credited[: plain.shape[0]], plain)
    below = credited[plain.shape[0] :]
    assert below.min() < 160, "the credit can be read"
    assert below[:, -5:].min() == 255 and below[-1:].min() == 255, "and is not cut"


def test_quiet_and_plain_python_show_no_picture(tmp_path, capsys):
    figures.show_figure(figures.picture_grid({"ours": pictures()}), "a", "Noise")
    assert capsys.readouterr().out == "[a] Noise\n"
    figures.begin(tmp_path / "figures", quiet=True)
    figures.show_figure(figures.picture_grid({"ours": pictures()}), "b", "Noise")
    figures.table([{"a": 1}], "A table")
    assert capsys.readouterr().out == "" and (tmp_path / "figures" / "b.png").exists()


def test_a_large_photograph_is_rounded_little(tmp_path, shown):
    noise = pictures(2, 150, 150)
    figures.show_figure(figures.picture_grid({"a": noise, "b": noise}), "large", "Noise")
    saved = np.asarray(Image.open(tmp_path / "figures" / "large.png").convert("RGB"))
    whole = np.asarray(figures._render(figures.picture_grid({"a": noise, "b": noise})))
    difference = np.abs(saved.astype(int) - whole)
    assert 0 < difference.max() <= 5
    assert (saved[whole.min(axis=2) == 255] == 255).all(), "white paper stays white"


# --------------------------------------------------------------------------------- picture_grid


@settings(deadline=None, max_examples=12)
@given(
    count=st.integers(1, 3),
    columns=st.integers(1, 7),
    height=st.sampled_from([1, 31, 64, 200, 700]),
    width=st.sampled_from([1, 48, 96, 400]),
)
def test_any_grid_fits_the_page(count, columns, height, width):
    batches = {f"method {n}": pictures(count, height, width) for n in range(columns)}
    grid = figures.picture_grid(batches, {"method 0": ["20.1 dB"] * count}, "A finding " * 9)
    rendered = figures._render(grid)
    assert rendered.width <= 1000
    assert len(grid.axes) == count * columns
    for axes in grid.axes:
        box = axes.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0
        assert box.x1 <= rendered.width + 0.01 and box.y1 <= rendered.height + 0.01
    renderer = grid.canvas.get_renderer()
    for text in grid.texts:
        box = text.get_window_extent(renderer)
        assert text.get_fontsize() >= 10
        assert box.x1 <= rendered.width and box.y0 >= 0 and box.y1 <= rendered.height


def test_small_pictures_are_enlarged_by_whole_factors_and_stay_sharp():
    truth = pictures(1, 64, 64)
    rendered = np.asarray(figures._render(figures.picture_grid({"truth": truth})))
    enlarged = truth[0].repeat(3, axis=0).repeat(3, axis=1)
    places = np.argwhere((rendered == enlarged[0, 0]).all(axis=2))
    assert any(
        np.array_equal(rendered[y : y + 192, x : x + 192], enlarged) for y, x in places.tolist()
    )


def test_grey_pictures_keep_their_values():
    grey = np.full((1, 64, 64), 100, dtype=np.uint8)
    rendered = np.asarray(figures._render(figures.picture_grid({"grey": grey})))
    assert (rendered == 100).all(axis=2).sum() >= 192 * 192


def test_texts_of_a_grid_stand_in_it():
    grid = figures.picture_grid(
        {"ours": pictures(), "truth": pictures()}, {"ours": ["20.1 dB", "$5"]}, "We won", ["a", "b"]
    )
    words = [text.get_text() for text in grid.texts]
    assert {"We won", "ours", "truth", "20.1 dB", r"\$5", "a", "b"} <= set(words)


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


@settings(deadline=None, max_examples=30)
@given(st.text(alphabet="abc de\nfg", max_size=60), st.integers(20, 300))
def test_wrapping_loses_no_word(text, width):
    lines = figures._wrap(text, width, 10)
    assert " ".join(lines).split() == text.split()
    assert all(figures._measure(line, 10) <= width or " " not in line for line in lines)


# --------------------------------------------------------------------------------------- charts


def test_curves_show_raw_and_smooth_losses_in_different_lines():
    named = {"U-Net": history(), "ResNet U-Net": history("other")}
    fig = figures.curves(named, ["l1", "gan"], "Both fall", "loss", validation="psnr")
    losses, validation = fig.axes
    strong = losses.lines[1::2]
    labels = [line.get_label() for line in strong]
    assert labels == ["U-Net: l1", "U-Net: gan", "ResNet U-Net: l1", "ResNet U-Net: gan"]
    looks = {(line.get_color(), line.get_linestyle()) for line in strong}
    assert len(looks) == 4 == len({line.get_color() for line in strong})
    assert all(line.get_alpha() < 0.5 for line in losses.lines[::2])
    assert [line.get_label() for line in validation.lines] == ["U-Net", "ResNet U-Net"]
    assert validation.lines[0].get_xydata()[0].tolist() == [1.0, 21.0]
    assert fig.get_suptitle() == "Both fall" and losses.get_ylabel() == "loss"
    assert validation.get_xlabel() == "optimisation steps"


def test_a_single_spike_does_not_flatten_a_curve():
    spiky = history()
    spiky.losses["gan"][50] = 500.0
    assert figures.curves(spiky, "gan", "Spike", "loss").axes[0].get_ylim()[1] < 200


def test_curves_of_short_runs_and_one_key():
    fig = figures.curves([History("a", [1], {"l1": [0.5]})], "l1", "One step", "loss")
    assert fig.axes[0].lines[1].get_ydata().tolist() == [0.5]
    figures._render(fig)
    with pytest.raises(ValueError, match="no history holds"):
        figures.curves(history(), "missing", "Title", "loss")


def test_bars_write_each_number_and_what_was_not_run():
    values = {"grey floor": 19.8, "ours": 21.456, "bad": -0.5, "cyclegan": None, "nan": math.nan}
    fig = figures.bars(values, "We win", "PSNR (dB)", {"ours": (20.9, 22.0)}, {"paper": 24.3})
    axes = fig.axes[0]
    words = [text.get_text().strip() for text in axes.texts]
    assert words == ["19.80", "21.46", "\N{MINUS SIGN}0.50", "not run yet", "not run yet"]
    assert len(axes.patches) == 3
    assert axes.get_legend().get_texts()[0].get_text() == "paper 24.30"
    low, high = axes.get_xlim()
    assert low < -0.5 and high > 24.3
    figures._render(fig)


def test_bars_take_any_number_of_references():
    references = {f"paper {n}": float(n) for n in range(1, 10)}
    fig = figures.bars({"ours": 5.0}, "Many papers", "PSNR (dB)", references=references)
    assert len(fig.axes[0].get_legend().get_texts()) == 9


def test_a_palette_shows_its_colours_by_their_shares():
    colours = np.array([[255, 0, 0], [0, 0, 255]], dtype=np.uint8)
    fig = figures.palette_strip({"ours": colours}, "Red", {"ours": [3, 1]})
    assert [patch.get_width() for patch in fig.axes[0].patches] == [0.75, 0.25]
    rendered = np.asarray(figures._render(fig))
    assert (rendered == (255, 0, 0)).all(axis=2).sum() > 2 * (rendered == (0, 0, 255)).all(2).sum()
    assert len(figures.palette_strip(colours / 255.0).axes[0].patches) == 2
    with pytest.raises(ValueError, match="shape"):
        figures.palette_strip(np.zeros((2, 4)))


# --------------------------------------------------------------------------------------- tables


class Cells(html.parser.HTMLParser):
    """Collects (tag, attributes, text) of a table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), ""))

    def handle_data(self, data):
        if data.strip():
            tag, attributes, text = self.found[-1]
            self.found[-1] = tag, attributes, text + data

    def of(self, tag: str) -> list[tuple[dict, str]]:
        return [(attributes, text) for name, attributes, text in self.found if name == tag]


ROWS = [
    {"row": "grey <floor>", "psnr": 19.812, "ssim": 0.8512, "n": 120, "ci": (19.1, 20.2)},
    {"row": "unet & co", "psnr": -1.4, "ssim": None, "n": 12000, "gan": True, "ci": math.nan},
]


def test_a_table_is_accessible_html_with_a_plain_twin(shown):
    figures.table(ROWS, "Scores & intervals", "scores")
    content = shown[0][0]
    cells = Cells(content["text/html"])
    assert cells.of("table")[0][0]["id"] == "scores"
    assert cells.of("caption") == [({}, "Scores & intervals")]
    heads = [text for attributes, text in cells.of("th") if attributes["scope"] == "col"]
    assert heads == ["row", "psnr", "ssim", "n", "ci", "gan"]
    rows = [text for attributes, text in cells.of("th") if attributes["scope"] == "row"]
    assert rows == ["grey <floor>", "unet & co"]
    texts = [text for _, text in cells.of("td")]
    assert texts[:5] == ["19.81", "0.851", "120", "19.10 to 20.20", "–"]
    assert texts[5:] == ["\N{MINUS SIGN}1.40", "–", "12,000", "–", "yes"]
    sides = {text: attributes["style"] for attributes, text in cells.of("th") + cells.of("td")}
    assert sides["19.81"] == sides["psnr"] == "text-align:right"
    assert sides["yes"] == sides["row"] == "text-align:left"
    assert "<floor>" not in content["text/html"]
    plain = content["text/plain"].splitlines()
    assert plain[0] == "Scores & intervals"
    assert plain[2].split() == heads
    assert plain[4].startswith("grey <floor>  19.81  0.851")


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=20))
def test_tables_escape_whatever_they_are_given(text):
    content = []
    patch = pytest.MonkeyPatch()
    patch.setattr(figures, "_display", content.append)
    try:
        figures.table([{text: text, "b": 1}], f"caption {text}")
    finally:
        patch.undo()
    tags = [tag for tag, _, _ in Cells(content[0]["text/html"]).found]
    assert set(tags) <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.00012, 0.004], ["0.00012", "0.004"]),
        ([0.5, 0.25], ["0.500", "0.250"]),
        ([1.0, 24.333], ["1.00", "24.33"]),
        ([150.04, -3.0], ["150.0", "\N{MINUS SIGN}3.0"]),
        ([1234567.8, -0.2], ["1,234,568", "0"]),
        ([2018, 12800], ["2018", "12,800"]),
        ([np.float32(0.5), np.int64(3)], ["0.50", "3"]),
        ([math.inf, None], ["–", "–"]),
        ([True, "text"], ["yes", "text"]),
    ],
)
def test_numbers_of_a_column_are_rounded_alike(values, words):
    assert figures._column(values) == words


def test_tables_without_rows_or_captions():
    figures.table([], "Nothing was run")
    with pytest.raises(ValueError, match="caption"):
        figures.table([{"a": 1}], " ")
