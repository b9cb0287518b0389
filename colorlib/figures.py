"""Figures and tables in one house style: saved, closed and shown with words for who cannot see."""

from __future__ import annotations

import base64
import html
import io
import math
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from colorlib import files

if TYPE_CHECKING:
    from colorlib.training import History

DPI = 100
WIDTH = 980  # pixels; a report page is about this wide
# Okabe and Ito: told apart with any kind of colour vision; their yellow is too pale on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":", (0, (7, 2, 1, 2, 1, 2)), (0, (1, 3)), (0, (9, 3)))
INK, FAINT = "#222222", "#595959"
STYLE: dict[str, Any] = {
    "figure.dpi": DPI,
    "figure.facecolor": "white",
    "figure.figsize": (7.0, 4.0),
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters everywhere
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlepad": 10,
    "axes.prop_cycle": plt.cycler(color=COLOURS, linestyle=LINES),
    "grid.color": "#E3E3E3",
    "image.interpolation": "nearest",
    "legend.fontsize": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
}
ROUNDING = ((100_000, 64), (200_000, 32))  # bytes of a PNG above which it keeps so many levels

_folder: Path | None = None
_quiet = False


def begin(folder: str | Path, quiet: bool = False) -> None:
    """Save figures into `folder` from now on, in the house style; quiet: save without showing."""
    global _folder, _quiet
    _folder, _quiet = Path(folder), quiet
    matplotlib.rcParams.update(STYLE)


def show_figure(fig: Figure, name: str, alt: str, credit: str = "") -> None:
    """Save a figure as NAME.png, close it and show it with alt text; the credit goes under it."""
    plt.close(fig)
    if not alt.strip():
        raise ValueError(f"figure '{name}' needs alt text: say in words what it shows")
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"figure name '{name}': use letters, digits, _ and - only")
    if _folder is None:
        raise RuntimeError("call figures.begin(folder) before the first figure")
    content = _encode(_with_credit(_render(fig), credit.strip()), alt)
    files.write_atomic(_folder / f"{name}.png", content)
    metadata = {"image/png": {"alt": alt, "file": f"{_folder.name}/{name}.png"}}
    picture = {"image/png": base64.b64encode(content).decode(), "text/plain": f"[{name}] {alt}"}
    _display(picture, metadata)


def _display(content: dict[str, str], metadata: dict[str, Any] | None = None) -> None:
    if _quiet:
        return
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and hasattr(shell, "kernel"):
        from IPython.display import display

        display(content, metadata=metadata or {}, raw=True)
    else:
        print(content["text/plain"])


def _render(fig: Figure) -> Image.Image:
    stream = io.BytesIO()
    # a picture grid is laid out to the pixel; cropping would blur its pictures
    options = {} if getattr(fig, "exact", False) else {"bbox_inches": "tight", "pad_inches": 0.1}
    fig.savefig(stream, format="png", dpi=DPI, facecolor="white", **options)
    return Image.open(stream).convert("RGB")


def _with_credit(picture: Image.Image, credit: str) -> Image.Image:
    if not credit:
        return picture
    lines = _wrap(credit, picture.width - 20, 8)
    strip = Figure(figsize=(picture.width / DPI, (14 * len(lines) + 10) / DPI), dpi=DPI)
    FigureCanvasAgg(strip)
    where = {"x": 10 / picture.width, "y": 1, "va": "top", "linespacing": 1.2}
    strip.text(s="\n".join(lines), fontsize=8, color=FAINT, **where)
    strip.exact = True
    below = _render(strip)
    both = Image.new("RGB", (picture.width, picture.height + below.height), "white")
    both.paste(picture, (0, 0))
    both.paste(below, (0, picture.height))
    return both


def _encode(picture: Image.Image, alt: str) -> bytes:
    """Return PNG bytes that depend on the pixels and the alt text only."""
    content = _png(picture, alt)
    # Of a grid of photographs 64 levels a channel keep 70 % of the bytes at a mean CIEDE2000 of 0.6
    # (99 % below 2.5). A palette of 256 colours is smaller, but moves 1 % of the pixels by 8.
    for large, levels in ROUNDING:
        if len(content) > large:
            content = _png(_rounded(picture, levels), alt)
    return content


def _rounded(picture: Image.Image, levels: int) -> Image.Image:
    step = 255 / (levels - 1)
    return Image.fromarray((np.round(np.asarray(picture) / step) * step).round().astype(np.uint8))


def _png(picture: Image.Image, alt: str) -> bytes:
    notes, stream = PngInfo(), io.BytesIO()
    notes.add_itxt("Description", alt)
    picture.save(stream, "PNG", optimize=True, pnginfo=notes, dpi=(DPI, DPI))
    return stream.getvalue()


# ------------------------------------------------------------------------------ picture grids


def picture_grid(
    columns: Mapping[str, Any],
    captions: Mapping[str, Sequence[str]] | None = None,
    title: str = "",
    row_titles: Sequence[str] | None = None,
) -> Figure:
    """Draw a row per picture and a column per method; at most 980 px wide.

    Args:
        columns: column title -> uint8 pictures (N, H, W, 3) or grey (N, H, W); one N for all.
        captions: column title -> a caption under each of its pictures (usually the metric).
        title: the finding, as a sentence.
        row_titles: a title left of each row.
    """
    batches = {name: np.asarray(batch) for name, batch in columns.items()}
    counts = {name: len(batch) for name, batch in batches.items()}
    if not batches or len(set(counts.values())) != 1 or 0 in counts.values():
        raise ValueError(f"every column needs the same number of pictures, at least one: {counts}")
    captions = captions or {}
    rows = next(iter(counts.values()))
    unequal = [name for name, texts in captions.items() if len(texts) != counts.get(name)]
    if unequal or (row_titles is not None and len(row_titles) != rows):
        raise ValueError(f"captions or row titles do not match the {rows} rows: {unequal}")
    gap, line = 10, 16
    margin = _margin(row_titles, len(batches))
    cell = (WIDTH - margin - gap * (len(batches) + 1)) // len(batches)
    sizes = {name: _shown_size(batch.shape[1:3], cell) for name, batch in batches.items()}
    widths = [max(width, min(cell, 110)) for _, width in sizes.values()]
    total = margin + sum(widths) + gap * (len(batches) + 1)
    headings = [_wrap(name, width, 10, "bold") for name, width in zip(batches, widths, strict=True)]
    lines = {
        name: [_wrap(text, width, 10) for text in captions.get(name, [""] * rows)]
        for name, width in zip(batches, widths, strict=True)
    }
    title_lines = _wrap(title, max(total, 420) - 2 * gap, 12, "bold")
    total = max(total, min(WIDTH, 2 * gap + max(_measure(t, 12, "bold") for t in title_lines)))
    tallest = max(height for height, _ in sizes.values())
    under = [
        max(len(lines[name][row]) for name in batches) if captions else 0 for row in range(rows)
    ]
    head = gap + (20 * len(title_lines) + gap if title else 0)
    names = line * max(len(heading) for heading in headings) + 6
    height = head + names + sum(tallest + line * count + gap for count in under) + gap

    page = _Page(int(total), int(height))
    if title:
        page.text(gap, gap, title_lines, 12, weight="bold", spacing=1.2)
    top = head + names
    for row in range(rows):
        if row_titles is not None:
            text = _wrap(row_titles[row], margin - gap, 10)
            page.text(gap, top + tallest / 2, text, 10, va="center")
        left = margin + gap
        for place, (name, batch) in enumerate(batches.items()):
            if row == 0:
                page.text(left, top - 7, headings[place], 10, weight="bold", va="baseline")
            shown = _resized(batch[row], sizes[name])
            page.picture(left, top, shown)
            page.text(left, top + shown.shape[0] + 2, lines[name][row], 10)
            left += widths[place] + gap
        top += tallest + line * under[row] + gap
    return page.fig


class _Page:
    """A figure addressed in pixels from the top left, so that pictures stay sharp."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        with matplotlib.rc_context(STYLE):
            self.fig = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        FigureCanvasAgg(self.fig)
        self.fig.exact = True

    def text(self, left: float, top: float, lines: list[str], size: float, **options: Any) -> None:
        options = {"va": "top", "linespacing": options.pop("spacing", 1.1), **options}
        words = "\n".join(lines).replace("$", r"\$")
        with matplotlib.rc_context(STYLE):
            self.fig.text(left / self.width, 1 - top / self.height, words, fontsize=size, **options)

    def picture(self, left: int, top: int, rgb: np.ndarray) -> Axes:
        height, width = rgb.shape[:2]
        bottom = self.height - top - height
        place = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        axes = self.fig.add_axes(place)
        axes.set_axis_off()
        axes.imshow(rgb, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
        return axes


def _margin(row_titles: Sequence[str] | None, columns: int) -> int:
    if row_titles is None:
        return 0
    widest = max(_measure(text, 10) for text in row_titles)
    return int(min(widest, max(110, 240 - 20 * columns))) + 10


def _shown_size(size: tuple[int, int], cell: int) -> tuple[int, int]:
    """Return the (height, width) to draw: small pictures by a whole factor, large ones reduced."""
    height, width = size
    room = min(cell / width, 260 / height)  # as large as fits
    wanted = 150 / max(height, width)  # enough to see
    factor = min(room, wanted) if wanted > 1 else min(room, 1.0)
    if factor > 1 and max(size) <= 96:
        factor = math.floor(min(room, math.ceil(wanted)))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    if picture.shape[:2] == size:
        return picture
    whole = height % picture.shape[0] == 0 and width % picture.shape[1] == 0
    how = Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), how))


_renderer = RendererAgg(1, 1, DPI)


def _measure(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a text in pixels."""
    font = FontProperties("DejaVu Sans", size=size, weight=weight)
    return _renderer.get_text_width_height_descent(text, font, False)[0]


def _wrap(text: str, width: float, size: float, weight: str = "normal") -> list[str]:
    """Break a text into lines of at most `width` pixels, between words."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}" if line else word
            if line and _measure(longer, size, weight) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


# ------------------------------------------------------------------------------------- charts


def curves(
    histories: History | Sequence[History] | Mapping[str, History],
    keys: str | Sequence[str],
    title: str,
    ylabel: str,
    validation: str | None = None,
    over: int = 0,
    log: bool = False,
) -> Figure:
    """Plot losses by step: means over `over` steps (0: a thirtieth), the raw ones faint behind.

    `validation` names a value of the histories' validation entries: its points get a second
    panel. A mapping's keys are the labels; else the histories' names are.
    """
    named = _named(histories)
    keys = [keys] if isinstance(keys, str) else list(keys)
    series = [(_label(name, key, named, keys), h, key) for name, h in named.items() for key in keys]
    series = [(label, history, key) for label, history, key in series if key in history.losses]
    if not series:
        raise ValueError(f"no history holds any of the losses {keys}")
    points = [
        (
            name,
            [e["step"] for e in h.validation],
            [e.get(validation, math.nan) for e in h.validation],
        )
        for name, h in named.items()
        if validation and h.validation
    ]
    panels = 2 if points else 1
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(7.4, 3.6 if panels == 1 else 5.6), layout="constrained")
        FigureCanvasAgg(fig)
        axes = fig.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
        for number, (label, history, key) in enumerate(series):
            colour, line = COLOURS[number % len(COLOURS)], LINES[number % len(LINES)]
            axes[0].plot(history.steps, history.losses[key], "-", color=colour, alpha=0.2, lw=0.8)
            smooth = history.smooth(key, over or max(1, len(history.steps) // 30))
            axes[0].plot(history.steps, smooth, ls=line, color=colour, label=label)
        axes[0].set_ylabel(ylabel)
        if log:
            axes[0].set_yscale("log")
        if not log:
            _fit_height(axes[0], [history.losses[key] for _, history, key in series])
        if len(series) > 1:
            _legend(axes[0])
        for number, (name, steps, values) in enumerate(points):
            colour, marker = COLOURS[number % len(COLOURS)], "osD^vPX"[number % 7]
            axes[1].plot(steps, values, marker=marker, ls=":", color=colour, label=name)
        if points:
            axes[1].set_ylabel(f"validation {validation}")
            if len(points) > 1:
                _legend(axes[1])
        axes[-1].set_xlabel("optimisation steps")
        _title(fig, axes[0], title)
    return fig


def _named(histories: Any) -> dict[str, History]:
    if isinstance(histories, Mapping):
        return dict(histories)
    return {h.name: h for h in ([histories] if hasattr(histories, "losses") else histories)}


def _label(name: str, key: str, named: dict[str, History], keys: list[str]) -> str:
    if len(named) == 1:
        return key
    return name if len(keys) == 1 else f"{name}: {key}"


def _legend(axes: Axes) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=3.2, borderaxespad=0.2)


def _title(fig: Figure, axes: Axes, title: str) -> None:
    width = fig.get_figwidth() * DPI - 40
    fig.suptitle(
        "\n".join(_wrap(title, width, 12, "bold")),
        x=0.01,
        ha="left",
        fontsize=12,
        fontweight="bold",
    )


def _fit_height(axes: Axes, series: list[list[float]]) -> None:
    """Leave single spikes of the raw losses out of view so that the rest can be read."""
    raw = np.concatenate([np.asarray(each, dtype=float) for each in series])
    smooth = np.concatenate([line.get_ydata() for line in axes.lines[1::2]])
    seen = [*np.nanquantile(raw, [0.003, 0.99]), np.nanmin(smooth), np.nanmax(smooth)]
    room = 0.06 * (max(seen) - min(seen))
    if room > 0:
        axes.set_ylim(min(seen) - room, max(seen) + room)


def bars(
    values: Mapping[str, float | None],
    title: str,
    xlabel: str,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Draw a horizontal bar per name with its number; None says "not run yet".

    Args:
        intervals: name -> (low, high), drawn as a whisker.
        references: name -> value of a vertical line (the grey floor, the paper's number).
    """
    intervals, references = intervals or {}, references or {}
    known = {name: value for name, value in values.items() if not _is_missing(value)}
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "x"}):
        fig = Figure(figsize=(7.4, 1.3 + 0.38 * len(values)), layout="constrained")
        FigureCanvasAgg(fig)
        axes = fig.subplots()
        axes.set_yticks(range(len(values)), list(values))
        axes.set_ylim(len(values) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        span = [*known.values(), *references.values(), *(e for i in intervals.values() for e in i)]
        reach = max((abs(value) for value in span), default=1.0) or 1.0
        show = _formatter(list(known.values()))
        for place, name in enumerate(values):
            if name not in known:
                axes.text(0, place, " not run yet", va="center", color=FAINT, style="italic")
                continue
            value = known[name]
            axes.barh(place, value, height=0.62, color=COLOURS[0])
            low, high = intervals.get(name, (value, value))
            if name in intervals:
                axes.plot([low, high], [place, place], "-", color="black", lw=1.5)
            end = max(value, high, 0.0) + 0.015 * reach
            axes.text(end, place, show(value), va="center", bbox=_PAPER)
        axes.margins(x=0.14)
        if min([0.0, *span]) < 0:
            axes.spines.left.set_visible(False)
            axes.axvline(0, color=INK, lw=0.8, ls="-")
        for number, (name, value) in enumerate(references.items(), 1):
            style = {"color": COLOURS[number % len(COLOURS)], "ls": LINES[number % len(LINES)]}
            axes.axvline(value, label=f"{name} {show(value)}", **style)
        if references:
            _legend(axes)
        axes.set_xlabel(xlabel)
        _title(fig, axes, title)
    return fig


_PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}


def palette_strip(
    colours: Any,
    title: str = "",
    shares: Any = None,
) -> Figure:
    """Draw colours (K, 3), uint8 or floats in [0, 1], as a strip; a mapping draws one per name.

    `shares` (K,) or name -> (K,) makes widths follow the share of each colour.
    """
    named = dict(colours) if isinstance(colours, Mapping) else {"": colours}
    parts = shares if isinstance(shares, Mapping) else {"": shares}
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        fig = Figure(
            figsize=(6.4, 0.35 + 0.55 * len(named) + 0.3 * bool(title)), layout="constrained"
        )
        FigureCanvasAgg(fig)
        axes = fig.subplots()
        for place, (name, strip) in enumerate(named.items()):
            rgb = _unit_rgb(strip)
            widths = parts.get(name)
            widths = np.ones(len(rgb)) if widths is None else np.asarray(widths, dtype=float)
            widths = widths / widths.sum()
            edges = np.concatenate([[0.0], np.cumsum(widths)[:-1]])
            line = {"edgecolor": "white", "linewidth": 1.0}
            axes.barh([place] * len(rgb), widths, left=edges, color=rgb, height=0.8, **line)
        axes.set_yticks(range(len(named)), list(named))
        axes.set_ylim(len(named) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.set_xticks([])
        axes.tick_params(axis="y", length=0)
        axes.spines[:].set_visible(False)
        if title:
            _title(fig, axes, title)
    return fig


def _unit_rgb(colours: Any) -> np.ndarray:
    rgb = np.asarray(colours)
    if rgb.ndim != 2 or rgb.shape[1] != 3:
        raise ValueError(f"colours have shape {rgb.shape}, not (K, 3)")
    return rgb / 255.0 if rgb.dtype == np.uint8 else np.clip(rgb.astype(float), 0, 1)


# ------------------------------------------------------------------------------------- tables


def table(rows: Sequence[Mapping[str, Any]], caption: str, name: str | None = None) -> None:
    """Show rows (column -> value) as an HTML table, or as plain text where HTML is not read.

    Numbers are rounded alike in a column and stand right; None and NaN become a dash;
    `name` is the table's id in the page.
    """
    if not caption.strip():
        raise ValueError("a table needs a caption: say what it shows")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = {column: _column([row.get(column) for row in rows]) for column in columns}
    right = {column: _is_numeric([row.get(column) for row in rows]) for column in columns}
    _display(
        {
            "text/html": _html_table(cells, right, len(rows), caption, name),
            "text/plain": _plain_table(cells, right, len(rows), caption),
        }
    )


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and not math.isfinite(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _is_numeric(values: list[Any]) -> bool:
    kept = [value for value in values if not _is_missing(value)]
    return bool(kept) and all(_is_number(v) or _is_interval(v) for v in kept)


def _is_interval(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_is_number, value))


def _column(values: list[Any]) -> list[str]:
    numbers = [v for v in values if _is_number(v) and not _is_missing(v)]
    numbers += [end for v in values if _is_interval(v) for end in v if not _is_missing(end)]
    show = _formatter(numbers)
    return [_cell(value, show) for value in values]


def _cell(value: Any, show: Callable[[Any], str]) -> str:
    if _is_missing(value):
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if _is_number(value):
        return show(value)
    if _is_interval(value):
        return f"{show(value[0])} to {show(value[1])}"
    return str(value)


def _formatter(numbers: Sequence[Any]) -> Callable[[Any], str]:
    """Return how to write numbers that belong together: alike, and no finer than they matter."""
    largest = max((abs(float(number)) for number in numbers), default=0.0)
    decimals = 0 if largest >= 1000 else 1 if largest >= 100 else 2 if largest >= 1 else 3

    def show(number: Any) -> str:
        if _is_missing(number):
            return "–"
        if isinstance(number, (int, np.integer)):
            return f"{number:,}" if abs(number) >= 10_000 else str(number)
        if 0 < largest < 0.01:
            return f"{number:.2g}"
        text = f"{number:,.{decimals}f}" if largest >= 10_000 else f"{number:.{decimals}f}"
        zero = not text.strip("-0.,")
        return (text.lstrip("-") if zero else text).replace("-", "\N{MINUS SIGN}", 1)

    return show


def _html_table(
    cells: dict[str, list[str]], right: dict[str, bool], count: int, caption: str, name: str | None
) -> str:
    side = {column: "right" if right[column] else "left" for column in cells}
    identity = f' id="{html.escape(name)}"' if name else ""
    lines = [f"<table{identity}>", f"<caption>{html.escape(caption)}</caption>", "<thead><tr>"]
    lines += [
        f'<th scope="col" style="text-align:{side[column]}">{html.escape(str(column))}</th>'
        for column in cells
    ]
    lines.append("</tr></thead>\n<tbody>")
    for row in range(count):
        lines.append("<tr>")
        for place, (column, texts) in enumerate(cells.items()):
            tag, scope = ("th", ' scope="row"') if place == 0 else ("td", "")
            text = html.escape(texts[row])
            lines.append(f'<{tag}{scope} style="text-align:{side[column]}">{text}</{tag}>')
        lines.append("</tr>")
    return "\n".join([*lines, "</tbody>\n</table>"])


def _plain_table(
    cells: dict[str, list[str]], right: dict[str, bool], count: int, caption: str
) -> str:
    grid = [[str(column) for column in cells]]
    grid += [[texts[row] for texts in cells.values()] for row in range(count)]
    wrapped = [[textwrap.wrap(text, 48) or [""] for text in row] for row in grid]
    widths = [
        max(len(part) for row in wrapped for part in row[place]) for place in range(len(cells))
    ]
    lines = [caption, ""]
    for number, row in enumerate(wrapped):
        for part in range(max(len(cell) for cell in row) if row else 0):
            texts = [cell[part] if part < len(cell) else "" for cell in row]
            line = [
                text.rjust(width) if aligned else text.ljust(width)
                for text, width, aligned in zip(texts, widths, right.values(), strict=True)
            ]
            lines.append("  ".join(line).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths))
    return "\n".join(lines)
