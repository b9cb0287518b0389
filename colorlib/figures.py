"""Figures and tables in one house style: saved, closed and shown with words for who cannot see."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont, ImageOps
from PIL.PngImagePlugin import PngInfo

from colorlib import files, notebooks

DPI = 100
WIDTH = 980  # pixels; a report page is about this wide
GAP = 10  # pixels around pictures
# Okabe and Ito: told apart with any kind of colour vision; their yellow is too pale on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":", (0, (7, 2, 1, 2, 1, 2)), (0, (1, 3)), (0, (9, 3)))
INK, FAINT = "#222222", "#595959"
KINDS = {  # of boxes in a drawing
    "data": {"boxstyle": "square,pad=0.6", "fc": "#E3EFF7", "ec": COLOURS[0]},
    "network": {"boxstyle": "round,pad=0.6", "fc": "#FDF1DA", "ec": COLOURS[4]},
    "loss": {"boxstyle": "round,pad=0.6,rounding_size=1", "fc": "#DDF1EA", "ec": COLOURS[2]},
}
UNIT = np.array((170, 76))  # pixels
STYLE = matplotlib.rc_params_from_file(files.TEMPLATES / "house.mplstyle", False, False)
STYLE["axes.prop_cycle"] = plt.cycler(color=COLOURS, linestyle=LINES)
SLIDER_BYTES = 200_000

_folder: Path | None = None


def begin(folder: str | Path) -> None:
    """Save figures into `folder` from now on, in the house style."""
    global _folder
    _folder = Path(folder)
    matplotlib.rcParams.update(STYLE)


def show_figure(fig: Figure | Image.Image, name: str, alt: str, credit: str = "") -> None:
    """Save a figure as NAME.png, close it and show it with alt text; the credit goes under it."""
    content, metadata = _save(_framed(_picture(fig), credit=credit), name, alt)
    png = base64.b64encode(content).decode()
    _display({"image/png": png, "text/plain": f"[{name}] {alt}"}, metadata)


def show_committed(notebook: str, name: str) -> None:
    """Show a figure of a notebook's largest committed report, or of the one it names."""
    for profile in (notebooks.about(notebook).get("told_by", "paper"), "overnight", "paper"):
        report = files.root() / "reports" / profile / notebook
        for about in notebooks.shown(report / "notebook.ipynb") if report.is_dir() else ():
            if Path(about["file"]).stem == name:
                show_figure(Image.open(report / about["file"]), f"{profile}_{name}", about["alt"])
                return
    print(f"{name} of a longer run: python -m colorlib run {notebook} --profile overnight")


def slider(
    frames: Sequence[Any], labels: Sequence[str], name: str, alt: str, title="", kind="slider"
) -> None:
    """Show one of several frames, chosen by mouse or keyboard; NAME.png is the last one.

    Frames are uint8 pictures (H, W, 3), picture grids or figures; the alt text ends with the label
    of the one shown. kind: of two, "handle" puts the last over the first, on one side of a handle.
    Needs no network; where no script runs, the last frame stands.
    """
    if not frames or len(frames) != len(labels):
        raise ValueError(f"slider '{name}': {len(frames)} frames, {len(labels)} labels; one each")
    pictures = [_picture(frame) for frame in frames]
    size = tuple(map(max, zip(*(picture.size for picture in pictures), strict=True)))
    pictures = [_paper(size, picture) for picture in pictures]  # so that nothing jumps
    factor = max(1, 320 // max(size))  # small pictures by a whole factor
    last = _framed(ImageOps.scale(pictures[-1], factor, Image.Resampling.NEAREST), title)
    _, metadata = _save(last, name, f"{alt} ({labels[-1]})")
    shown = {"labels": list(labels), "frames": _data_uris(pictures), "alt": alt, "title": title}
    shown |= {"width": factor * size[0], "height": factor * size[1], "sharp": factor > 1}
    identity = f"{kind}-{name}-{files.sha(repr(shown).encode())[:8]}"
    page = files.fill(f"{kind}.html.j2", **shown, id=identity)
    _display({"text/html": page, "text/plain": f"[{name}] {alt}"}, metadata)


def _data_uris(pictures: list[Image.Image]) -> list[str]:
    """Encode without loss if 200 kB hold them, else as JPEG as good as they do, smaller at last."""
    for kind, quality in (("png", 0), ("jpeg", 90), ("jpeg", 65), ("jpeg", 35)):
        encoded = [base64.b64encode(_encoded(p, kind, quality=quality)).decode() for p in pictures]
        if sum(map(len, encoded)) <= SLIDER_BYTES or max(pictures[0].size) < 64:
            return [f"data:image/{kind};base64,{text}" for text in encoded]
    return _data_uris([ImageOps.scale(picture, 0.7) for picture in pictures])


def _save(picture: Image.Image, name: str, alt: str) -> tuple[bytes, dict[str, Any]]:
    if not alt.strip():
        raise ValueError(f"figure '{name}' needs alt text: say in words what it shows")
    notes = PngInfo()
    notes.add_itxt("Description", alt)
    content = _encoded(picture, "png", optimize=True, pnginfo=notes, dpi=(DPI, DPI))
    files.write_atomic(_folder / f"{name}.png", content)
    return content, {"image/png": {"alt": alt, "file": f"{_folder.name}/{name}.png"}}


def _encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _display(content: dict[str, str], metadata: dict[str, Any] | None = None) -> None:
    from IPython import get_ipython
    from IPython.display import display

    if get_ipython() is None:
        print(content["text/plain"])
    else:
        display(content, metadata=metadata or {}, raw=True)


def _picture(shown: Figure | Image.Image | np.ndarray) -> Image.Image:
    """Turn whatever can be shown into pixels; a figure is closed."""
    if isinstance(shown, Figure):
        plt.close(shown)
        stream = io.BytesIO()
        shown.savefig(stream, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.1)
        shown = Image.open(stream)
    elif not isinstance(shown, Image.Image):
        shown = Image.fromarray(np.ascontiguousarray(shown))
    return shown.convert("RGB")


def _paper(size: tuple[int, int], picture: Image.Image | None = None) -> Image.Image:
    page = Image.new("RGB", size, "white")
    if picture:
        page.paste(picture)
    return page


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    file = f"fonts/ttf/DejaVuSans{'-Bold' if bold else ''}.ttf"
    path, basic = Path(matplotlib.get_data_path()) / file, ImageFont.Layout.BASIC
    return ImageFont.truetype(path, size * DPI / 72, layout_engine=basic)


def _words(text: str, width: int, size: int = 10, bold: bool = False, fill=INK) -> Image.Image:
    """Set a text in lines on paper of that width; sizes are in points."""
    lines, step = _wrap(text, width, size, bold), round(1.6 * size)
    page = _paper((width, step * len(lines)))
    for number, line in enumerate(lines):
        ImageDraw.Draw(page).text((0, step * number), line, fill, _font(size, bold))
    return page


def _wrap(text: str, width: float, size: int, bold: bool = False) -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines.append("")
        for word in paragraph.split():
            longer = f"{lines[-1]} {word}".lstrip()
            if lines[-1] and _font(size, bold).getlength(longer) > width:
                lines.append(word)
            else:
                lines[-1] = longer
    return lines


def _stacked(parts: Sequence[Image.Image], gap: int = GAP, beside: bool = False) -> Image.Image:
    """Lay pictures on paper one below, or beside, the other."""
    widths, heights = zip(*(part.size for part in parts), strict=True)
    long = sum(widths if beside else heights) + gap * (len(parts) - 1)
    page, place = _paper((long, max(heights)) if beside else (max(widths), long)), 0
    for part in parts:
        page.paste(part, (place, 0) if beside else (0, place))
        place += gap + (part.width if beside else part.height)
    return page


def _framed(picture: Image.Image, title: str = "", credit: str = "") -> Image.Image:
    """Put a bold title above a picture and small print below it."""
    above, below = [], []
    if title:
        widest = math.ceil(_font(12, bold=True).getlength(title))
        width = max(picture.width - 2 * GAP, min(widest, WIDTH - 2 * GAP))
        above = [ImageOps.expand(_words(title, width, 12, bold=True), (GAP, GAP, GAP, 0), "white")]
    if credit.strip():
        print_ = _words(credit.strip(), picture.width - 2 * GAP, 8, fill=FAINT)
        below = [ImageOps.expand(print_, (GAP, 0, GAP, GAP), "white")]
    return _stacked([*above, picture, *below], gap=0)


def picture_grid(
    columns: Mapping[str, Any],
    captions: Mapping[str, Sequence[str]] | None = None,
    title: str = "",
    row_titles: Sequence[str] | None = None,
) -> Image.Image:
    """Draw a row per picture and a column per method; at most 980 px wide.

    columns: title -> uint8 pictures (N, H, W, 3) or grey (N, H, W). captions: title -> a text under
    each of its pictures, usually the metric. row_titles: a text left of each row.
    """
    captions = captions or {}
    counts = {name: len(batch) for name, batch in columns.items()}
    rows = max(counts.values(), default=0)
    texts = [row_titles or range(rows), *captions.values()]
    if {*counts.values(), *map(len, texts)} != {rows} or not rows or captions.keys() - counts:
        raise ValueError(f"every row needs a picture of each column, and its words: {counts}")
    margin = []  # the width of the row titles, where there are any
    if row_titles:
        widest = max(map(_font(10).getlength, row_titles))
        margin = [math.ceil(min(widest, max(110, 240 - 20 * len(columns))))]
    room = (WIDTH - sum(margin) - GAP * (len(columns) + len(margin) + 1)) // len(columns)
    sizes = {name: _shown_size(np.shape(batch)[1:3], room) for name, batch in columns.items()}
    widths = {name: max(width, min(room, 110)) for name, (width, _) in sizes.items()}

    heads = [_words(name, width, bold=True) for name, width in widths.items()]
    lines = [[*(_paper((width, 1)) for width in margin), *heads]]
    for row in range(rows):
        lines.append([_words(row_titles[row], width) for width in margin])
        for name, batch in columns.items():
            texts = [_words(captions[name][row], widths[name])] if name in captions else []
            picture, size = _picture(np.asarray(batch[row])), sizes[name]
            cell = _paper((widths[name], size[1]), picture.resize(size, Image.Resampling.LANCZOS))
            lines[-1].append(_stacked([cell, *texts], gap=2))
    page = _stacked([_stacked(line, beside=True) for line in lines])
    return _framed(ImageOps.expand(page, GAP, "white"), title)


def picture_rows(
    rows: Mapping[str, Any], captions: Mapping[str, Sequence[str]] | None = None, title: str = ""
) -> Image.Image:
    """Draw a row per method, its name above it, and a column per picture; captions as in a grid.

    Of fewer pictures than methods each has a band of its own, its methods beside each other.
    """
    captions, count = captions or {}, min(map(len, rows.values()))
    bands = []
    if count < len(rows):
        beside = len(rows) if len(rows) <= 6 else math.ceil(len(rows) / 2)
        side = (WIDTH - GAP) // beside - GAP
        for place in range(count):
            cells = [_cell(rows, captions, name, place, side, named=True) for name in rows]
            bands += [
                _stacked(cells[at : at + beside], beside=True) for at in range(0, len(rows), beside)
            ]
    else:
        side = min((WIDTH - GAP) // count - GAP, 190, max(112, 900 // len(rows)))
        for name in rows:
            cells = [_cell(rows, captions, name, place, side) for place in range(count)]
            bands += [_words(name, WIDTH - 2 * GAP, bold=True), _stacked(cells, beside=True)]
    return _framed(ImageOps.expand(_stacked(bands, gap=4), GAP, "white"), title)


def _cell(rows, captions, name, place, side, named=False) -> Image.Image:
    picture = ImageOps.contain(_picture(np.asarray(rows[name][place])), (side, side))
    above = [_words(name, side, bold=True)] if named else []
    below = [_words(captions[name][place], side)] if name in captions else []
    return _stacked([*above, picture, *below], gap=2)


def _shown_size(size: tuple[int, int], room: int) -> tuple[int, int]:
    """Return the (width, height) to draw: small pictures enlarged, large ones reduced."""
    height, width = size
    factor = min(room / width, 260 / height, max(150 / max(size), 1.0))  # enough to see
    return max(1, round(width * factor)), max(1, round(height * factor))


def palette_strip(
    strips: Mapping[str, Any], shares: Mapping[str, Any], title: str = ""
) -> Image.Image:
    """Draw the colours of each name, (K, 3) in [0, 1], in a strip; widths by `shares`, (K,)."""
    drawn = []
    for name, colours in strips.items():
        rgb = np.round(np.clip(colours, 0, 1) * 255).astype(np.uint8)
        edges = np.round(np.cumsum([0, *shares[name]]) / np.sum(shares[name]) * 500).astype(int)
        drawn.append(np.repeat(rgb, np.diff(edges), axis=0)[None].repeat(40, axis=0))
    return picture_grid({"": drawn}, title=title, row_titles=list(strips))


def curves(
    histories: Any,
    keys: str | Sequence[str],
    title: str,
    ylabel: str,
    validation: str | None = None,
    log: bool = False,
    lines: Mapping[str, float] | None = None,
) -> Figure:
    """Plot losses of a `training.History`, or of label -> history, by step; the raw ones faint.

    validation: the value of their validation entries for a second panel. lines: label -> height,
    in the last panel: the grey and the best-constant floor.
    """
    named = histories if isinstance(histories, Mapping) else {histories.name: histories}
    keys = [keys] if isinstance(keys, str) else list(keys)
    shown = [(name, key) for name in named for key in keys if key in named[name].losses]
    if not shown:
        raise ValueError(f"no history holds any of the losses {keys}")
    checked = {name: h.validation for name, h in named.items() if validation and h.validation}
    fig = Figure(figsize=(7.4, 5.6 if checked else 3.6), layout="constrained")
    panels = fig.subplots(2 if checked else 1, 1, sharex=True, squeeze=False)[:, 0]
    for name, key in shown:
        label = key if len(named) == 1 else name if len(keys) == 1 else f"{name}: {key}"
        smooth = named[name].smooth(key, max(1, len(named[name].steps) // 30))
        panels[0].plot(named[name].steps, smooth, label=label)
    panels[0].set(ylabel=ylabel, yscale="log" if log else "linear")
    panels[0].set_ylim(panels[0].get_ylim())  # spikes of the raw losses stay out of view
    for (name, key), line in zip(shown, panels[0].lines[:], strict=True):
        faint = {"color": line.get_color(), "alpha": 0.2, "lw": 0.8}
        panels[0].plot(named[name].steps, named[name].losses[key], "-", **faint)
    for number, (name, entries) in enumerate(checked.items()):
        found = [(entry["step"], entry.get(validation, math.nan)) for entry in entries]
        panels[1].plot(*zip(*found, strict=True), ":", label=name, marker="osD^vPX"[number % 7])
        panels[1].set_ylabel(f"validation {validation}")
    for number, (label, height) in enumerate((lines or {}).items()):
        panels[-1].axhline(height, color=FAINT, ls=LINES[1 + number % 6], lw=1.2, label=label)
    for panel in panels:
        if len(panel.get_legend_handles_labels()[1]) > 1:
            panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=3.2)
    panels[-1].set_xlabel("optimisation steps")
    wrapped = "\n".join(_wrap(title, fig.get_figwidth() * DPI - 40, 12, bold=True))
    fig.suptitle(wrapped, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return fig


def flow(boxes: Mapping[str, tuple], arrows: Sequence[tuple], title: str = "") -> Figure:
    """Draw what flows where: boxes, name -> (x, y, text, kind), x right and y up, in UNITs.

    kind: a key of KINDS. arrows: (from, to, text); with a fourth, how far it bends: a gradient.
    """
    places = np.array([box[:2] for box in boxes.values()]) * UNIT
    least, most = places.min(0) - UNIT / 2, places.max(0) + UNIT / 2
    fig, drawn = Figure((most - least) / DPI), {}
    axes = fig.add_axes((0, 0, 1, 1), xlim=(least[0], most[0]), ylim=(least[1], most[1]))
    axes.set_axis_off()
    lines = _wrap(title, max(340, (most - least)[0]), 12, bold=True)
    axes.set_title("\n".join(lines), pad=38 if any(arrow[3:] for arrow in arrows) else 8)
    for name, (x, y, text, kind) in boxes.items():
        drawn[name] = axes.text(*UNIT * (x, y), text, ha="center", va="center", bbox=KINDS[kind])
    fig.canvas.draw()  # the size of a box is that of its text
    for start, end, text, *bent in arrows:
        one, other = (np.array(drawn[name].get_position()) for name in (start, end))
        bend, look = sum(bent), {"color": COLOURS[1], "ls": "--"} if bent else {"color": FAINT}
        look |= {"arrowstyle": "-|>", "lw": 1.6, "connectionstyle": f"arc3,rad={bend}"}
        look |= {f"patch{k}": drawn[n].get_bbox_patch() for k, n in (("A", start), ("B", end))}
        axes.annotate("", other, one, arrowprops=look | {"mutation_scale": 13})
        right, up = (other - one) / (long := np.linalg.norm(other - one))
        away = np.array([up, -right]) * (np.sign(bend) or 1)  # from the line, to where its text is
        away *= -1 if not bend and (away[1], away[0]) < (0, 0) else 1
        across, along = np.round(1.3 * away).astype(int) + 1
        side = {"ha": ("right", "center", "left")[across], "va": ("top", "center", "bottom")[along]}
        side |= {"textcoords": "offset points", "annotation_clip": False, "size": 10}
        axes.annotate(text, (one + other + abs(bend) * long * away) / 2, 4 * away, **side)
    return fig


def table(rows: Sequence[Mapping[str, Any]], caption: str, name: str | None = None) -> None:
    """Show rows (column -> value) as an HTML table, NAME its id, or as plain text without HTML.

    Numbers are rounded alike in a column and stand right; None and NaN become a dash.
    """
    if not caption.strip():
        raise ValueError("a table needs a caption: say what it shows")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    values = [[row.get(column) for row in rows] for column in columns]
    texts = list(zip(*map(_texts, values), strict=True))
    sides = ["right" if all(v is None or _is_number(v) for v in c) else "left" for c in values]
    about = {"name": name, "caption": caption, "columns": columns, "rows": texts, "sides": sides}
    plain = [caption, "", *(" | ".join(map(str, row)) for row in [columns, *texts])]
    _display({"text/html": files.fill("table.html.j2", **about), "text/plain": "\n".join(plain)})


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _texts(values: list[Any]) -> list[str]:
    """Write the cells of a column, its numbers alike and no finer than they matter."""
    sizes = [abs(value) for value in values if _is_number(value) and math.isfinite(value)]
    largest = max(sizes, default=0.0)
    decimals = 0 if largest >= 1000 else 1 if largest >= 100 else 2 if largest >= 1 else 3
    kind = f".{decimals}f" if largest >= 0.01 else ".2g"

    def write(value: Any) -> str:
        if value is None or (_is_number(value) and not math.isfinite(value)):
            return "–"
        if not _is_number(value):
            return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
        thousands = "," if abs(value) >= 10_000 else ""
        text = f"{value:{thousands}{'' if isinstance(value, Integral) else kind}}"
        return text.replace("-", "\N{MINUS SIGN}" if text.strip("-0.") else "", 1)

    return list(map(write, values))
