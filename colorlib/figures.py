"""Figures and tables in one house style: saved, closed and shown with words for who cannot see."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import combinations, product
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path as Line
from matplotlib.transforms import Bbox
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
AHEAD, BACK = {"color": FAINT}, {"color": COLOURS[1], "linestyle": "--"}  # its arrows
# of an arrow in it: how far it swings out to its left, and on which side of it its text stands
BENDS = (0, 1), (0, -1), (0.2, 1), (0.4, 1), (-0.2, -1), (-0.4, -1), (0.6, 1), (-0.6, -1)
HOUSE = files.TEMPLATES / "house.mplstyle"
STYLE = matplotlib.rc_params_from_file(HOUSE, use_default_template=False)
STYLE["axes.prop_cycle"] = plt.cycler(color=COLOURS, linestyle=LINES)
SLIDER_BYTES = 300_000

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


def show_committed(notebook: str, name: str) -> bool:
    """Show a figure of a notebook's overnight report as `overnight_NAME`, or say how to get it."""
    report = files.root() / "reports" / "overnight" / notebook
    for about in notebooks.shown(report / "notebook.ipynb") if report.is_dir() else ():
        if Path(about["file"]).stem == name:
            show_figure(Image.open(report / about["file"]), f"overnight_{name}", about["alt"])
            return True
    print(f"{name} of a longer run: python -m colorlib run {notebook} --profile overnight")
    return False


def slider(
    frames: Sequence[Any], labels: Sequence[str], name: str, alt: str, title: str = ""
) -> None:
    """Show one of several frames, chosen by mouse or keyboard; NAME.png is the last one.

    Frames are uint8 pictures (H, W, 3), picture grids or figures; the alt text ends with the label
    of the one shown. Needs no network; where no script runs, the last frame stands.
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
    identity = f"slider-{name}-{files.sha(repr(shown).encode())[:8]}"
    page = files.fill("slider.html.j2", **shown, id=identity)
    _display({"text/html": page, "text/plain": f"[{name}] {alt}"}, metadata)


def _data_uris(pictures: list[Image.Image]) -> list[str]:
    """Encode without loss if 300 kB hold them, else as JPEG as good as they do, smaller at last."""
    for kind, quality in (("png", 0), ("jpeg", 90), ("jpeg", 65), ("jpeg", 35)):
        encoded = [base64.b64encode(_encoded(p, kind, quality=quality)).decode() for p in pictures]
        if sum(map(len, encoded)) <= SLIDER_BYTES or max(pictures[0].size) < 64:
            return [f"data:image/{kind};base64,{text}" for text in encoded]
    return _data_uris([ImageOps.scale(picture, 0.7) for picture in pictures])


def _save(picture: Image.Image, name: str, alt: str) -> tuple[bytes, dict[str, Any]]:
    """Write NAME.png; return its bytes and what a page must know of it."""
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
    """Return matplotlib's own font, the same everywhere."""
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
    """Break a text into lines of at most `width` pixels, between words."""
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
            whole = size[0] % picture.width == 0 and size[1] % picture.height == 0
            way = Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS
            cell = _paper((widths[name], size[1]), picture.resize(size, way))
            lines[-1].append(_stacked([cell, *texts], gap=2))
    page = _stacked([_stacked(line, beside=True) for line in lines])
    return _framed(ImageOps.expand(page, GAP, "white"), title)


def _shown_size(size: tuple[int, int], room: int) -> tuple[int, int]:
    """Return the (width, height) to draw: small pictures by a whole factor, large ones reduced."""
    height, width = size
    fits, wanted = min(room / width, 260 / height), 150 / max(size)  # enough to see
    factor = min(fits, max(wanted, 1.0))
    if factor > 1 and max(size) <= 96:
        factor = math.floor(min(fits, math.ceil(wanted)))
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
    """Draw what flows where in a network: as small as nothing overlaps, at most 980 px wide.

    boxes: name -> (x, y, text) or (x, y, text, kind), in columns to the right and rows up; kind:
    "data", "network" or "loss". arrows: (from, to, text), or with "back" added: a gradient, dashed.
    """
    for longest, wider in product((WIDTH, 110, 80), np.geomspace(1, 4, 20)):
        texts = ["\n".join(_wrap(arrow[2], longest, 10)) for arrow in arrows]  # broken if need be
        places = _places(boxes, arrows, texts, wider)
        ways = _ways(places, arrows, texts)
        parts = [Bbox.union([line.get_extents(), label]) for line, label in ways]
        frame = Bbox.union([*places.values(), *parts])
        if len(ways) == len(arrows) and frame.width <= WIDTH - 2 * GAP:
            break
    else:
        raise ValueError(f"no room in {WIDTH} px: shorten texts, or lay the boxes in more rows")
    fig, middle = Figure(frame.size / DPI), {"ha": "center", "va": "center_baseline", "size": 10}
    axes = fig.add_axes((0, 0, 1, 1), xlim=frame.intervalx, ylim=frame.intervaly)
    axes.set_axis_off()
    axes.set_title("\n".join(_wrap(title, max(340, frame.width), 12, bold=True)))
    for name, (_, _, text, *kind) in boxes.items():
        look = KINDS[kind[0] if kind else "data"]
        axes.text(*np.mean(places[name], axis=0), text, bbox=look, **middle)
    for arrow, text, (line, label) in zip(arrows, texts, ways, strict=True):
        look = {"lw": 1.6, "arrowstyle": "-|>", "mutation_scale": 13, "clip_on": False}
        axes.add_patch(FancyArrowPatch(path=line, **look, **(BACK if arrow[3:] else AHEAD)))
        axes.text(*np.mean(label, axis=0), text, **middle)
    if any(arrow[3:] for arrow in arrows):
        axes.plot([], [], **BACK, label="gradient, on its way back")
        axes.legend(loc="upper left", bbox_to_anchor=(0, 0), borderpad=0)
    return fig


def _half_size(text: str) -> np.ndarray:
    lines = text.split("\n")
    return np.array([max(map(_font(10).getlength, lines)), 17 * len(lines) * bool(text)]) / 2


def _places(boxes: Mapping[str, tuple], arrows: Any, texts: list, wider: float) -> dict[str, Bbox]:
    """Space columns and rows so that neighbours have room for the text of an arrow."""
    names, grid = [*boxes], np.array([box[:2] for box in boxes.values()], float)
    half = np.array([_half_size(box[2]) + 9 for box in boxes.values()])
    rooms, gap = np.full((len(grid), len(grid), 2), 36.0), grid - grid[:, None]
    for (start, end, _, *back), text in zip(arrows, texts, strict=True):
        pair = [names.index(start), names.index(end)]
        rooms[pair, pair[::-1]] = rooms[tuple(pair)] if back else 2 * _half_size(text) + 14
    rooms = np.maximum(rooms, 36) + half + half[:, None]
    beside = abs(gap[..., ::-1]) < 1
    need = np.select([gap == 0, gap < 0, beside], [0, -np.inf, rooms], 30 * gap)
    at = np.zeros_like(grid)
    for _ in names:  # what stands farther left, or lower, moves the others on
        at = (at[:, None] + need).max(0)
    corners = zip(at * wider - half, at * wider + half, strict=True)
    return dict(zip(names, map(Bbox, corners), strict=True))


def _ways(places: Mapping[str, Bbox], arrows: Any, texts: list) -> list[tuple[Line, Bbox]]:
    """Lead arrows, and texts beside them, past everything; fewer where there is no room."""
    ways, taken, boxes = [], set(), [*places.values()]
    if any(one.padded(14).overlaps(other) for one, other in combinations(boxes, 2)):
        return []
    for (start, end, *_), text in zip(arrows, texts, strict=True):
        lines, labels = zip(*ways, strict=True) if ways else ((), ())
        walls = [place for name, place in places.items() if name not in (start, end)]
        for crossing, (bend, side) in product((False, True), BENDS):
            line, label = _way(places[start], places[end], bend, side, _half_size(text))
            hits = [line.intersects_bbox(box.padded(5), False) for box in (*walls, *labels)]
            hits += [each.intersects_bbox(label.padded(3), False) for each in (*lines, line)]
            hits += [line.intersects_path(each, False) for each in lines if not crossing]
            hits += [label.padded(3).count_overlaps([*boxes, *labels])]
            if not any(hits) and (start, end, bend) not in taken:
                ways.append((line, label))
                taken |= {(start, end, bend), (end, start, -bend)}
                break
    return ways


def _way(one: Bbox, other: Bbox, bend: float, side: int, half: np.ndarray) -> tuple[Line, Bbox]:
    """Return a line from a box's edge to another's, and the place of the text beside it."""
    across, ends = np.mean(other, axis=0) - np.mean(one, axis=0), []
    left = np.array([-across[1], across[0]])
    for box, towards in ((one, across + 2 * bend * left), (other, 2 * bend * left - across)):
        reach = box.padded(4).size / 2 / np.maximum(abs(towards), 1e-9)
        ends.append(np.mean(box, axis=0) + towards * reach.min())
    middle = np.mean(ends, axis=0) + bend * left
    side *= 1 if bend or (left[1], left[0]) > (0, 0) else -1
    beside = side * left / np.hypot(*left)
    place = middle - bend / 2 * left + beside * (abs(beside) @ half + 6)
    line = Line([ends[0], middle, ends[1]], [Line.MOVETO, Line.CURVE3, Line.CURVE3])
    return line, Bbox([place - half, place + half])


def table(rows: Sequence[Mapping[str, Any]], caption: str, name: str | None = None) -> None:
    """Show rows (column -> value) as an HTML table, NAME its id, or as plain text without HTML.

    Numbers are rounded alike in a column and stand right; None and NaN become a dash.
    """
    if not caption.strip():
        raise ValueError("a table needs a caption: say what it shows")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    values = [[row.get(column) for row in rows] for column in columns]
    texts = list(zip(*map(_texts, values), strict=True))
    numbers = [all(v is None or _is_number(v) for v in each) for each in values]
    sides = ["right" if each else "left" for each in numbers]
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
