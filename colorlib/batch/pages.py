"""Pages to read: a report's index.html, and the page that lists the reports.

They ask nothing of any server; a picture without words for those who cannot see it is an error.
"""

import base64
import html
import io
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from colorlib import files, notebooks
from colorlib.batch import results
from colorlib.batch.plan import RunError


def render(report: str | Path) -> Path:
    """Write `report/index.html` from its executed `notebook.ipynb`; return the page."""
    import nbformat
    from bs4 import BeautifulSoup

    report = Path(report)
    notebook = nbformat.read(report / "notebook.ipynb", as_version=4)
    body, _ = _exporter(report).from_notebook_node(notebook)
    soup = BeautifulSoup(body, "html.parser")
    contents = _mend_headings(soup)
    for script in soup.select("script:not(.slider script)"):
        script.decompose()
    for image in soup.find_all("img"):
        if image.get("alt", "").strip() in ("", "No description has been provided for this image"):
            above = image.find_previous(re.compile("^h[1-6]$"))
            where = f"under '{above.get_text().rstrip('#')}'" if above else "at the top"
            raise RunError(f"a picture {where} has no alt text; give show_figure its alt")
    about = _about(report)
    for element in soup.select("a[href], img[src]"):
        key = "href" if element.name == "a" else "src"
        element[key] = _from_report(element[key], report, about)
        if key == "src" and ":" not in element[key] and not element.find_parent("a"):
            element.wrap(soup.new_tag("a", href=element[key]))  # whole, on a small screen
    short = "h2 ~ :is(figure, p:has(img)):not(h2 ~ h2 ~ *)"  # of the first section, "In short"
    lead = soup.select_one(".shown:has(> .handle)") or soup.select_one(short)
    lead = lead and lead.extract()  # first what came of it
    # names, punctuation and spaces of code have no colour of their own: two fifths of the page
    main = re.sub(r'<span class="[pnw]">([^<]*)</span>', r"\1", str(soup))
    page = files.fill("report.html.j2", main=main, lead=lead, contents=contents, **about)
    files.write_atomic(report / "index.html", page)
    return report / "index.html"


def _about(report: Path) -> dict[str, Any]:
    about = _run(report)
    own, reports = about["place"], about["profile"].parent
    pages = results.folders(reports, "index.html")
    runs = [page.relative_to(reports) for page in pages if page.name == own.name]
    beside = [run for run in runs if len(run.parts) != len(own.parts)]  # studies of a lesson, or it
    beside.sort(key=lambda run: run.parts[0] == own.parts[0])  # else the largest run comes last
    return {
        **about,
        "counts": {paper.name: paper.counts for paper in results.collect(reports)},
        "beside": beside[-1:],
        "runs": [run for run in runs if run not in (own, *beside)],
        "card": _run(reports / beside[-1]) if len(own.parts) > 2 and beside else about,
    }


def _exporter(report: Path) -> Any:
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    class Markdown(IPythonRenderer):
        block_math, inline_math = staticmethod(equation), staticmethod(mathml)

    templates = {"template_name": "cells", "extra_template_basedirs": [str(files.TEMPLATES)]}
    exporter = HTMLExporter(preprocessors=[CoalesceStreamsPreprocessor], **templates)
    markdown = MarkdownWithMath(Markdown(escape=False, exclude_anchor_links=True))
    exporter.register_filter("markdown2html", markdown.render)
    exporter.register_filter("log", re.compile(r"(.+ steps in .+ a step\).*\n?)+").fullmatch)
    exporter.register_filter("defined", re.compile(r"^(?:class|def) (\w+)", re.M).findall)
    exporter.register_filter("picture", lambda output, kind: _picture(report, output, kind))
    return exporter


def _picture(report: Path, output: Any, kind: str) -> dict[str, Any]:
    """Describe a shown picture: a link to the report's own file, or the picture itself."""
    from PIL import Image

    about, data = output["metadata"].get(kind, {}), "".join(output["data"][kind].split())
    content, src = base64.b64decode(data), f"data:{kind};base64,{data}"
    if "file" in about:
        src, content = quote(about["file"]), (report / about["file"]).read_bytes()
    width, height = Image.open(io.BytesIO(content)).size
    return {"src": src, "alt": about.get("alt", "").strip(), "width": width, "height": height}


REWRITES = (  # what latex2mathml does not know, in words that it does
    (r"\\(begin|end)\{(aligned|gathered|gather|align|split)\*?\}", r"\\\1{align*}"),
    (r"\\arg(?![a-zA-Z])", r"\\mathrm{arg}"),
    (r"\\(log|ln|exp|tanh)(?![a-zA-Z])\s*(?=[a-zA-Z]|\\(?!left|big))", r"\\\1\\, "),  # as TeX does
)


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
    return result


def equation(latex: str) -> str:
    r"""Set a displayed equation, its \tag{n} at the right."""
    body, *tags = re.split(r"\\tag\{([^}]*)\}", latex)
    number = f"<span>({html.escape(tags[0])})</span>" if tags else ""
    scrolls = 'class="equation" role="group" tabindex="0" aria-label="Equation"'
    return f"<div {scrolls}>{mathml(body + ''.join(tags[1::2]), 'block')}{number}</div>"


def _mend_headings(soup: Any) -> list[tuple[str, str]]:
    """Let no heading skip a level, give each an anchor of its own; return the contents."""
    level, taken, contents = 0, Counter(), []
    for heading in soup.find_all(re.compile("^h[1-6]$")):
        level = max(min(int(heading.name[1]), level + 1), 2 if level else 1)
        text = heading.get_text().strip()
        name = re.sub(r"\W+", "-", text.lower()).strip("-")
        taken[name] += 1
        anchor = f"{name}-{taken[name]}" if taken[name] > 1 else name
        heading.name, heading["id"] = f"h{level}", anchor
        link = {"class": "anchor", "href": f"#{anchor}", "aria-hidden": "true", "tabindex": "-1"}
        heading.append(soup.new_tag("a", attrs=link, string="#"))
        contents += [(text, anchor)] if level == 2 else []
    return contents


def _from_report(address: str, report: Path, about: dict[str, Any]) -> str:
    """Turn a link that is relative to the notebook's source into one relative to the report."""
    link, mark, fragment = address.partition("#")
    sources, profile = files.root() / "notebooks", about["profile"]
    target = Path(os.path.normpath(sources.joinpath(*about["place"].parts[1:], "..", link)))
    if not link or re.match(r"\w+:|/", link) or not target.exists():
        return address
    if target.suffix == ".ipynb" and sources in target.parents:
        other = target.relative_to(sources).with_suffix("") / "index.html"
        others = reversed([profile.parent / each / other for each in results.SHOWN])
        later = target if "studies" in other.parts else profile / other  # may never run: source
        target = next(filter(Path.is_file, (profile / other, *others)), later)
    return Path(os.path.relpath(target, report)).as_posix() + mark + fragment


def render_index(reports: str | Path) -> Path:
    """Write `reports/index.html`: a card for each paper, links relative; return the page."""
    page, cards = Path(reports) / "index.html", {}
    runs = map(_run, reversed(results.folders(reports, "index.html")))
    # on a card lessons lead, and of these the run that the notebook names as its own
    for run in sorted(runs, key=lambda run: (len(run["place"].parts), not run["told"])):
        cards.setdefault(run["place"].name, []).append(run)
    counts = {paper.name: paper.counts for paper in results.collect(reports)}
    values = {"cards": sorted(cards.items()), "counts": counts, "profiles": results.SHOWN}
    files.write_atomic(page, files.fill("index.html.j2", **values))
    return page


def _run(report: Path) -> dict[str, Any]:
    """Describe a run for a card or a page; its picture is the grid of results, else the first."""
    metrics, made = files.read_json(report / "metrics.json"), files.read_json(report / "run.json")
    name = metrics.get("notebook") or report.name  # a run is rendered before it has its own folder
    profile, lesson = report.parents[name.count("/")], name.removeprefix("studies/")
    figures = notebooks.shown(report / "notebook.ipynb")
    own = files.read_json(report / "notebook.ipynb").get("metadata", {}).get("colorlib", {})
    return {
        "profile": profile,
        "place": Path(profile.name, name),
        "title": results.title(report),
        "picture": min(figures, key=lambda f: "grid" not in f["file"], default=None),
        "headline": results.headline(metrics),
        "learned": lesson in notebooks.names() and notebooks.about(lesson).get("learned"),
        "told": own.get("told_by") == profile.name,
        "metrics": metrics,
        "made": made,
        "trained": files.duration(sum(made.get("seconds", {}).values())),
    }
