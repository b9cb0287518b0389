"""What the committed reports found: each claim's verdict, each run's scores, README's lines."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colorlib import files, notebooks, record

SHOWN = {  # by weight; smoke runs judge nothing and local ones are private: both are left out
    "laptop": "embedded photographs, minutes",
    "overnight": "as near to the paper as a night of two cores comes",
    "paper": "the paper's own settings, mostly on an accelerator",
}
# in studies: the paper says | we compare | where the number stands | where it is supported |
RULE = re.compile(r"\| ([^|\n]+ \| [^|\n]+) \| [^|\n]+ \| ((?:below|above) \S+) \|")
UNTESTED = (record.NOT_TESTABLE, record.NOT_RUN)


@dataclass
class Claim:
    """A sentence of a paper and what our runs found: rows of metrics.json, with run and page."""

    text: str
    section: str
    findings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def decisive(self) -> dict[str, Any]:
        return max(self.findings, key=_rank)

    @property
    def others(self) -> list[dict[str, Any]]:
        best = {found["profile"]: found for found in sorted(self.findings, key=_rank)}
        tested = (found for found in best.values() if found["verdict"] not in UNTESTED)
        return [found for found in tested if found is not self.decisive]


def _rank(found: dict[str, Any]) -> tuple[bool, int, bool]:
    """Order findings: tested ones count most, then the larger run's, then the run's own."""
    return found["verdict"] not in UNTESTED, [*SHOWN].index(found["profile"]), found["own"]


@dataclass
class Paper:
    """The claims and open questions of one paper, from its lesson and its studies."""

    name: str
    title: str
    claims: dict[tuple[str, int], Claim] = field(default_factory=dict)
    questions: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        found = Counter(claim.decisive["verdict"] for claim in self.claims.values())
        return {verdict: found[verdict] for verdict in record.VERDICTS}


def folders(reports: str | Path, file: str) -> list[Path]:
    """List the report folders that hold a file: by profile, lessons before studies."""
    patterns = [f"{profile}/{kind}[!.]*/{file}" for profile in SHOWN for kind in ("", "studies/")]
    return [found.parent for each in patterns for found in sorted(Path(reports).glob(each))]


def title(report: Path) -> str:
    """Return the first heading of a report's notebook, without its marks."""
    cells = files.read_json(report / "notebook.ipynb").get("cells", [])
    texts = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    found = re.search(r"^#{1,6} +(.+?)\s*#*$", "\n".join(texts), re.M)
    return re.sub(r"[*`$\\]", "", found[1]) if found else report.name


def collect(reports: str | Path) -> list[Paper]:
    """Read all reports that judge claims or list questions, by paper; those to come are empty."""
    papers: dict[str, Paper] = {}
    judged = {Path(name).name for name in notebooks.names("studies")} & {*notebooks.names()}
    found = folders(reports, "metrics.json")
    for folder in sorted(found, key=lambda folder: folder.parent.name == "studies"):
        if folder.name not in papers:  # a lesson, of any profile, comes before its studies
            papers[folder.name] = Paper(folder.name, title(folder))
        paper, metrics = papers[folder.name], files.read_json(folder / "metrics.json")
        date = str(files.read_json(folder / "run.json").get("date", ""))[:10]
        run = {"date": date, "href": f"{folder.relative_to(reports).as_posix()}/index.html"}
        cells = files.read_json(folder / "notebook.ipynb").get("cells", [])
        rules = dict(RULE.findall("\n".join("".join(cell["source"]) for cell in cells)))
        seen: Counter[str] = Counter()  # one sentence may be held against two things
        for row in metrics.get("claims", []):
            text, origin = row["claim"], row.get("origin") or {}
            seen[text] += 1
            claim = paper.claims.setdefault((text, seen[text]), Claim(text, row.get("section", "")))
            own = not origin.get("date")  # else it quotes a study of an earlier run
            made = {"profile": metrics["profile"], **run, **({} if own else origin)}
            rule = rules.get(f"{text} | {row['test'].partition(' (but its first')[0]}", "")
            claim.findings.append({**made, **row, "own": own, "rule": rule})
        paper.questions |= {question["id"]: question for question in metrics.get("questions", [])}
    listed = (paper for _, paper in sorted(papers.items()))
    return [paper for paper in listed if paper.claims or paper.questions or paper.name in judged]


def headline(metrics: dict[str, Any]) -> str:
    """Say in a few words what a run reached: its main row's gain over grey, beside the paper's."""
    row = notebooks.main_row(metrics["notebook"]) if metrics.get("results") else ""
    paper = {name.casefold(): numbers for name, numbers in metrics.get("paper", {}).items()}
    return files.fill("headline.j2", **metrics, row=row, numbers=paper.get(row, paper))


def scored(reports: str | Path) -> dict[str, dict[str, Any]]:
    """Return the metrics of all lessons by their place: smaller profiles first, floors first."""
    found = {}
    for folder in folders(reports, "metrics.json"):
        metrics = files.read_json(folder / "metrics.json") | {"title": title(folder)}
        if folder.parent.name in SHOWN and (rows := metrics["results"]):
            order = dict.fromkeys([*files.FLOORS, *rows])
            n = rows[files.FLOORS[0]]["n"]  # no row stands beside another subset's floor
            metrics["results"] = {row: rows[row] for row in order if rows[row]["n"] == n}
            found[folder.relative_to(reports).as_posix()] = metrics
    return found


def render(reports: str | Path) -> tuple[Path, Path]:
    """Write `claims.html` and `results.html`, every row of every lesson; return the pages."""
    values = {"papers": collect(reports), "scored": scored(reports), "verdicts": record.VERDICTS}
    pages = Path(reports) / "claims.html", Path(reports) / "results.html"
    for page in pages:
        files.write_atomic(page, files.fill(f"{page.name}.j2", **values))
    return pages


def lines(reports: str | Path) -> str:
    """Return README's Markdown table: a line a paper, of its largest run or the one it names."""
    papers = {}
    for place, metrics in scored(reports).items():
        name, profile = metrics["notebook"], metrics["profile"]
        about, row = {"told_by": profile, **notebooks.about(name)}, notebooks.main_row(name)
        if about["told_by"] == profile and "learned" in about and row in metrics["results"]:
            papers[name] = {"place": place, "metrics": metrics, "row": row, **about}
    return files.fill("lines.md.j2", papers=dict(sorted(papers.items())), floors=files.FLOORS)


def write_readme(readme: str | Path, reports: str | Path) -> None:
    """Put the lines of results between their marks in README.md."""
    text = Path(readme).read_text(encoding="utf-8")
    between = re.compile("(<!-- results -->\n).*(<!-- end of results -->)", re.DOTALL)
    new = between.sub(lambda marks: marks[1] + lines(reports) + marks[2], text)
    files.write_atomic(readme, new)
