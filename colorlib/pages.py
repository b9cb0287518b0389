"""Pages to read: a report's index.html, and the page that lists the reports.

They ask nothing of any server: equations are MathML, pictures are the report's own files, and
there is no script. A picture without words for those who cannot see it is an error.
"""

from __future__ import annotations

import base64
import html
import io
import os
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from colorlib import files, notebooks
from colorlib.files import read_json

TEMPLATES = Path(__file__).parent / "templates"
SHOWN = {  # smoke runs judge nothing and local ones are private: the index leaves both out
    "laptop": "drawn pictures, no network, minutes",
    "evening": "real pictures, no accelerator",
    "paper": "the papers' own settings",
}
PICTURES = ("image/png", "image/jpeg")
NO_ALT = "No description has been provided for this image"  # what nbconvert writes in its place


class PageError(Exception):
    """A report cannot become a page; one line that says what to mend."""


def render(report: str | Path) -> Path:
    """Write `report/index.html` from its executed `notebook.ipynb`; return the page."""
    import nbformat

    report = Path(report)
    source = report / "notebook.ipynb"
    try:
        notebook = nbformat.read(source, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise PageError(f"{source}: not a readable notebook ({error})") from error
    _tidy(notebook)
    exporter = _exporter(report)
    page = {"css": _css(), **_about(report, notebook)}
    body, _ = exporter.from_notebook_node(notebook, {"page": page})
    files.write_atomic(report / "index.html", _finished(body, report, source))
    return report / "index.html"


def _tidy(notebook: Any) -> None:
    """Join printed pieces, keep of overwritten lines what stands last, put headings in order."""
    level = 0
    for cell, heading in zip(notebook.cells, notebooks.headings(notebook.cells), strict=True):
        if heading == "Takeaways":  # whoever jumps there wants the verdicts, not their rules
            cell.metadata["tags"] = sorted({*cell.metadata.get("tags", []), "fold"})
        if cell.cell_type == "markdown":
            cell.source, level = _ordered(cell.source, level)
        outputs: list[Any] = []
        for output in cell.get("outputs", []):
            last = outputs[-1] if outputs else {}
            if output.output_type == "stream" and last.get("name") == output.name:
                last["text"] += output.text
            else:
                outputs.append(output)
        for output in outputs:
            if output.output_type == "stream":
                output["text"] = re.sub(r"[^\n]*\r(?!\n)", "", output["text"])
        if "outputs" in cell:
            cell.outputs = outputs


def _ordered(source: str, level: int) -> tuple[str, int]:
    """Lower the level of headings that skip one, and of every `#` after the first."""
    lines, fenced = source.split("\n"), False
    for i, line in enumerate(lines):
        fenced ^= line.lstrip().startswith(("```", "~~~"))
        match = re.match(r"(#{1,6})(\s+\S.*)", line)
        if match and not fenced:
            level = max(min(len(match[1]), level + 1), 2 if level else 1)
            lines[i] = "#" * level + match[2]
    return "\n".join(lines), level


def _about(report: Path, notebook: Any) -> dict[str, Any]:
    """Collect title, contents, links and facts of a report's page."""
    metrics, run = read_json(report / "metrics.json"), read_json(report / "run.json")
    headings = [
        (len(marks), text)
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for marks, text in re.findall(r"^(#{1,2})\s+(.+?)\s*$", cell.source, re.MULTILINE)
    ]
    titles = [plain(text) for level, text in headings if level == 1]
    name = metrics.get("notebook") or report.name  # a run is rendered before it has its own folder
    profile = metrics.get("profile") or run.get("profile")
    facts = [f"profile {profile}" if profile else "", str(run.get("date", ""))[:10]]
    at_home = report.parent.parent.name == "reports"
    claims = at_home and report.parent.name in SHOWN and metrics.get("claims")
    links = [("All reports", "../../index.html")] if at_home else []
    links += [("Claims", f"../../claims.html#{name}")] if claims else []
    links += _other_runs(report, name) if at_home else []
    own = (("Notebook", "notebook.ipynb"), ("Numbers", "metrics.json"), ("Run", "run.json"))
    links += [(text, name) for text, name in own if (report / name).exists()]
    return {
        "title": titles[0] if titles else report.name,
        "contents": [(plain(text), anchor(plain(text))) for level, text in headings if level == 2],
        "links": links,
        "neighbours": _neighbours(report, name) if at_home else [],
        "facts": " · ".join(filter(None, [*facts, headline(metrics)])),
    }


def _other_runs(report: Path, name: str) -> list[tuple[str, str]]:
    """Link the same notebook's pages of other profiles."""
    others = [profile for profile in SHOWN if profile != report.parent.name]
    there = [p for p in others if (report.parent.parent / p / name / "index.html").is_file()]
    return [
        (f"{profile.capitalize()} run", f"../../{profile}/{name}/index.html") for profile in there
    ]


def _neighbours(report: Path, name: str) -> list[tuple[str, str, str]]:
    """Link the notebooks before and after this one, in the same profile where they have run."""
    there: dict[str, Path] = {}
    for profile in (*SHOWN, report.parent.name):
        pages = (report.parent.parent / profile).glob("[!.]*/index.html")
        there |= {page.parent.name: page for page in pages}
    before = max((other for other in there if other < name), default="")
    after = min((other for other in there if other > name), default="")
    return [
        (
            way,
            title(cells(page.parent)) or other,
            f"../../{page.parent.parent.name}/{other}/index.html",
        )
        for way, other in (("prev", before), ("next", after))
        if (page := there.get(other))
    ]


def plain(markdown: str) -> str:
    """Take the marks out of a heading: links, emphasis, code."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    return re.sub(r"[*`$\\]|(?<!\w)_|_(?!\w)", "", text).strip()


def anchor(text: str) -> str:
    """Return the id of a heading."""
    return re.sub(r"[^\w]+", "-", text.lower()).strip("-")


def _exporter(report: Path) -> Any:
    """Build nbconvert's HTML exporter with our template, markdown and pictures."""
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Markdown(IPythonRenderer):
        """Markdown with MathML equations and our heading anchors."""

        def heading(self, text: str, level: int, **_: Any) -> str:
            name = anchor(html.unescape(re.sub(r"<math.*?</math>|<[^>]+>", "", text)))
            link = f'<a class="anchor" href="#{name}" aria-label="Link to this section">#</a>'
            return f'<h{level} id="{name}">{text}{link}</h{level}>\n'

        def block_math(self, body: str) -> str:
            return equation(body)

        def inline_math(self, body: str) -> str:
            return mathml(body)

        def latex_environment(self, name: str, body: str) -> str:
            return equation(rf"\begin{{{name}}}{body}\end{{{name}}}")

    class Exporter(HTMLExporter):
        """nbconvert's own but for the markdown renderer."""

        def markdown2html(self, source: str) -> str:
            return MarkdownWithMath(renderer=Markdown(escape=False)).render(source)

    exporter = Exporter(template_name="report", extra_template_basedirs=[str(TEMPLATES)])
    exporter.register_filter("picture", lambda output: _picture(report, output))
    return exporter


def _picture(report: Path, output: Any) -> dict[str, Any]:
    """Describe a shown picture: a link to the report's own file, or the picture itself."""
    from PIL import Image

    kind = next(kind for kind in PICTURES if kind in output["data"])
    about = output["metadata"].get(kind, {})
    content = base64.b64decode(output["data"][kind])
    name = about.get("file", "")
    linked = bool(name) and (report / name).is_file()
    src = quote(name) if linked else f"data:{kind};base64,{base64.b64encode(content).decode()}"
    content = (report / name).read_bytes() if linked else content
    width, height = Image.open(io.BytesIO(content)).size
    return {"src": src, "alt": about.get("alt", "").strip(), "width": width, "height": height}


# --- equations ----------------------------------------------------------------------------------

REWRITES = (  # what latex2mathml does not know, in words that it does
    (r"\\(begin|end)\{(aligned|eqnarray|gathered|gather|align|split)\*?\}", r"\\\1{align*}"),
    (r"\\(begin|end)\{equation\*?\}", ""),
    (r"\\operatorname\*?", r"\\mathrm"),
    (r"\\arg(?![a-zA-Z])", r"\\mathrm{arg}"),
    (r"\\(limits|nonumber|notag|displaystyle)(?![a-zA-Z])|\\label\{[^}]*\}", ""),
)
FUNCTION = re.compile(
    r"(?<!<msub>)(?<!<msup>)(?<!<msubsup>)(<mi>(?:log|ln|exp|tanh)</mi>)(?=<m(?:i|n|su|ov))"
)
THIN_SPACE = '<mspace width="0.167em" />'  # TeX sets it after a function's name


def mathml(latex: str, display: str = "inline") -> str:
    """Turn LaTeX into MathML; what cannot be turned stays readable as it was written."""
    from latex2mathml.converter import convert

    text = latex.strip()
    for pattern, replacement in REWRITES:
        text = re.sub(pattern, replacement, text)
    try:
        result = convert(text, display=display)
    except Exception:  # the package raises a dozen kinds, built-in ones among them
        result = r"<mi>\ "
    if re.search(r"<m[io]>\\[a-zA-Z ]", result):  # an unknown command
        return f'<code class="tex">{html.escape(latex.strip())}</code>'
    return FUNCTION.sub(rf"\1{THIN_SPACE}", result)


def equation(latex: str) -> str:
    r"""Set a displayed equation, its \tag{n} at the right."""
    tags = re.findall(r"\\tag\{([^}]*)\}", latex)
    number = f"<span>({html.escape(tags[0])})</span>" if tags else ""
    body = mathml(re.sub(r"\\tag\{[^}]*\}", "", latex), "block")
    return f'<div class="equation">{body}{number}</div>'


# --- what a finished page must keep to ----------------------------------------------------------


def _finished(body: str, report: Path, source: Path) -> str:
    """Mend relative links and twin anchors; refuse what a reader could not see or fetch."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(body, "html.parser")
    for script in soup.find_all("script"):
        script.decompose()
    _refuse_silent_pictures(soup, source)
    for tag, key in (("a", "href"), ("img", "src")):
        for element in soup.find_all(tag, attrs={key: True}):
            element[key] = _from_report(element[key], report)
    _refuse_fetching(soup, source)
    _number_twins(soup)
    # names, punctuation and spaces of code have no colour of their own: two fifths of the page
    return re.sub(r'<span class="[pnw]">([^<]*)</span>', r"\1", str(soup))


def _refuse_silent_pictures(soup: Any, source: Path) -> None:
    for image in soup.find_all("img"):
        if image.get("alt", "").strip() in ("", NO_ALT):
            where = f"a picture under '{_heading_above(image)}'"
            raise PageError(f"{source}: {where} has no alt text; give show_figure its alt")


def _refuse_fetching(soup: Any, source: Path) -> None:
    for element in soup.find_all(src=True) + soup.find_all("link", href=True):
        address = element.get("src") or element.get("href")
        if re.match(r"(\w+:)?//", address):
            raise PageError(f"{source}: {address} would be fetched from the network; keep it here")


def _number_twins(soup: Any) -> None:
    """Give headings of the same words anchors of their own: results, results-2."""
    taken: Counter[str] = Counter()
    for link in soup.find_all("a", class_="anchor"):
        name = link.parent["id"]
        taken[name] += 1
        if taken[name] > 1:
            link.parent["id"] = f"{name}-{taken[name]}"
            link["href"] = f"#{name}-{taken[name]}"


def _heading_above(element: Any) -> str:
    heading = element.find_previous(["h1", "h2", "h3", "h4"])
    return heading.get_text().rstrip("#") if heading else "no heading"


def _from_report(address: str, report: Path) -> str:
    """Turn a link that is relative to notebooks/ into one that is relative to the report."""
    link, _, fragment = address.partition("#")
    if not link or re.match(r"\w+:|/", link) or (report / link).exists():
        return address
    tail = f"#{fragment}" if fragment else ""
    if re.fullmatch(r"\d\d_\w+\.ipynb", link):
        return f"../{link.removesuffix('.ipynb')}/index.html{tail}"
    target = files.root() / "notebooks" / link
    if not target.exists():
        return address
    return Path(os.path.relpath(target.resolve(), report.resolve())).as_posix() + tail


@cache
def _css() -> str:
    """Return the style of all pages, with colours of code for light and dark."""
    from pygments.formatters import HtmlFormatter

    light = HtmlFormatter(style="friendly").get_style_defs(".highlight .")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight .")
    own = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    coloured = [
        "\n".join(line for line in style.splitlines() if line.startswith(".highlight . ."))
        for style in (light, dark)
    ]
    shorter = [style.replace(".highlight . .", ".highlight .") for style in coloured]
    return f"{own}{shorter[0]}\n@media (prefers-color-scheme: dark) {{\n{shorter[1]}\n}}"


# --- the list of reports ------------------------------------------------------------------------


def render_index(reports: str | Path) -> Path:
    """Write `reports/index.html`: a card for each notebook, links relative; return the page."""
    from colorlib import ledger  # it fills its own page by this module

    reports = Path(reports)
    counts = {paper.notebook: paper.counts for paper in ledger.collect(reports)}
    runs: dict[str, list[Path]] = {}
    for profile in SHOWN:
        for page in (reports / profile).glob("[!.]*/index.html"):
            runs.setdefault(page.parent.name, []).append(page.parent)
    cards = [_card(runs[name], reports, counts.get(name, {})) for name in sorted(runs)]
    claims = (reports / "claims.html").is_file()
    made = {report.parent.name for found in runs.values() for report in found}
    profiles = [(profile, meaning) for profile, meaning in SHOWN.items() if profile in made]
    page = fill("index.html.j2", cards=cards, claims=claims, profiles=profiles)
    files.write_atomic(reports / "index.html", page)
    return reports / "index.html"


def fill(template: str, **values: Any) -> str:
    """Fill one of our page templates, in the style of all pages."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, keep_trailing_newline=True
    )
    css = environment.filters["safe"](_css())
    return environment.get_template(template).render(**values, css=css)


def _card(runs: list[Path], reports: Path, counts: dict[str, int]) -> dict[str, Any]:
    """Describe a notebook by its runs, of which the last is the largest."""
    largest = runs[-1]
    found = cells(largest)
    return {
        "name": largest.name,
        "title": title(found) or largest.name,
        "picture": _front_picture(largest, found, largest.relative_to(reports).as_posix()),
        "verdicts": [(verdict, count) for verdict, count in counts.items() if count],
        "runs": [_run(report, reports) for report in reversed(runs)],
    }


def _run(report: Path, reports: Path) -> dict[str, str]:
    metrics, run = read_json(report / "metrics.json"), read_json(report / "run.json")
    data, profile = metrics.get("data", {}), report.parent.name
    pictures = f"{data['name']}, {data.get('test', '?')} test pictures" if "name" in data else ""
    facts = " · ".join(filter(None, [pictures, str(run.get("date", ""))[:10]]))
    return {
        "href": f"{report.relative_to(reports).as_posix()}/index.html",
        "name": profile.capitalize(),
        "headline": headline(metrics),
        "facts": facts,
    }


def cells(report: Path) -> list[dict[str, Any]]:
    """Return the cells of a report's notebook; none where it cannot be read."""
    try:
        return notebooks.cells(report / "notebook.ipynb")
    except notebooks.NotebookError:
        return []


def title(cells: list[dict[str, Any]]) -> str:
    """Return a notebook's first heading without its marks."""
    return next((plain(t) for c in cells for t in re.findall(r"^# +(.+)$", c["source"], re.M)), "")


def _front_picture(report: Path, cells: list[dict[str, Any]], place: str) -> dict[str, str] | None:
    """Choose the grid of results, unless it is a strip; else their first picture; else any."""
    found = []
    for cell, heading in zip(cells, notebooks.headings(cells), strict=True):
        for output in cell.get("outputs", []):
            known = output.get("metadata", {})
            about = next((known[kind] for kind in PICTURES if kind in known), {})
            name, alt = about.get("file", ""), about.get("alt", "")
            if name and alt and (report / name).is_file():
                picture = {"src": quote(f"{place}/{name}"), "alt": alt}
                low = _is_strip(report / name)
                rank = (Path(name).stem != "grid" or low, heading != "Results", low, len(found))
                found.append((rank, picture))
    return min(found, key=lambda each: each[0])[1] if found else None


def _is_strip(figure: Path) -> bool:
    """Say whether a figure is so low that a card would show little of it."""
    from PIL import Image

    with Image.open(figure) as picture:
        return picture.height < 0.3 * picture.width


def headline(metrics: dict[str, Any]) -> str:
    """Say in a few words what a run reached: its main row's gain over grey, beside the paper's."""
    results = metrics.get("results") or {}
    row = _main_row(metrics, results)
    if not row:
        rows = [name for name in results if name not in files.FLOORS]
        return f"{len(rows)} ways on the same pictures" if rows else ""
    numbers = results[row]
    parts = []
    if numbers.get("gain_over_grey") is not None:
        parts.append(f"gain over grey {numbers['gain_over_grey']:+.2f} dB")
    paper = _paper(metrics, row)
    for key, form, unit in (("gain_over_grey", "+.2f", " dB"), ("psnr", ".2f", " dB")):
        if isinstance(paper.get(key), (int, float)):
            ours = f"{numbers[key]:{form}}{unit}, " if key == "psnr" and numbers.get(key) else ""
            name = "PSNR " if key == "psnr" else ""
            parts.append(f"{name}{ours}the paper {paper[key]:{form}}{unit}")
    return f"{row.replace('_', ' ')}: {'; '.join(parts)}" if parts else ""


def _main_row(metrics: dict[str, Any], results: dict[str, Any]) -> str:
    """Return the row a notebook is judged by; one that compares and claims nothing has none."""
    try:
        row = notebooks.main_row(metrics.get("notebook", ""))
    except notebooks.NotebookError:
        row = ""
    others = [name for name in results if name not in files.FLOORS]
    if row in results:
        return row
    return others[0] if others and metrics.get("claims") else ""


def _paper(metrics: dict[str, Any], row: str) -> dict[str, Any]:
    """Return the paper's numbers for a row: its own entry, or numbers that stand for the whole."""
    paper = metrics.get("paper") or {}
    own = {re.sub(r"\W|_", "", key).lower(): numbers for key, numbers in paper.items()}
    found = own.get(row.replace("_", ""))
    return found if isinstance(found, dict) else paper


# --- the results table of README.md ---------------------------------------------------------------

README_MARKS = ("<!-- results -->\n", "<!-- end of results -->")


def results_table(reports: str | Path) -> str:
    """Return the committed reports' scores as a Markdown table, floors first in each."""
    scores = "PSNR dB | SSIM | gain over grey, dB | colourfulness | CIEDE2000"
    lines = [f"| notebook, profile, data | row | {scores} |", "|---|---|---|---|---|---|---|"]
    for profile in SHOWN:
        for file in sorted((Path(reports) / profile).glob("[!.]*/metrics.json")):
            lines += results_rows(read_json(file), file.relative_to(reports).as_posix())
    return "\n".join(lines) + "\n"


def results_rows(metrics: dict[str, Any], file: str) -> list[str]:
    """Return the table's rows of one report, given its metrics.json and where that lies."""
    page = file.replace("metrics.json", "index.html")
    data = metrics["data"]
    about = f"[{metrics['notebook']}, {metrics['profile']}](reports/{page}), {data['name']}"
    rows = sorted(metrics["results"].items(), key=lambda r: (*files.FLOORS, r[0]).index(r[0]))
    lines = []
    for row, s in rows:
        low, high = s["ci95"]["gain_over_grey"]
        gain = (
            "0" if row == "grey_floor" else f"{s['gain_over_grey']:+.2f} [{low:+.2f}, {high:+.2f}]"
        )
        scores = (
            f"{s['psnr']:.2f} | {s['ssim']:.3f} | {gain} | {s['cf_ratio']:.2f} | {s['delta_e']:.1f}"
        )
        lines.append(f"| {about if not lines else ''} | {row.replace('_', ' ')} | {scores} |")
    return lines


def write_readme(readme: str | Path, reports: str | Path) -> None:
    """Put the results table between its marks in README.md."""
    replace_between(readme, README_MARKS, results_table(reports))


def replace_between(file: str | Path, marks: tuple[str, str], text: str) -> None:
    """Replace what stands between two marks of a text file."""
    before, rest = Path(file).read_text(encoding="utf-8").split(marks[0])
    after = rest.split(marks[1])[1]
    files.write_atomic(file, marks[0].join((before, text + marks[1] + after)))
