"""The claims ledger: every claim of the papers and every open question, with what our runs found.

It is made from the committed reports alone: no number in it is typed by hand.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colorlib import files, pages, record
from colorlib.files import read_json

README_MARKS = ("<!-- claims -->\n", "<!-- end of claims -->")
WEIGHT = {"laptop": 0, "evening": 1, "paper": 2}  # where two runs decide, the larger one counts
BORROWED = re.compile(r"\s*\[(evening|paper)\b[^\]]*\]$")  # a study that another run made
OWN = re.compile(r"\s*\[this run\b[^\]]*\]$")
UNDECIDED = ("not run yet", "not testable here")


@dataclass(frozen=True)
class Finding:
    """What one run says of a claim."""

    profile: str
    test: str
    number: str
    verdict: str
    href: str
    date: str


@dataclass
class Claim:
    """A sentence of a paper and what each of our runs found."""

    text: str
    cell: str = ""
    findings: list[Finding] = field(default_factory=list)

    @property
    def decisive(self) -> Finding:
        """The finding that counts: a decided one before an undecided one, then the larger run's."""
        return max(self.findings, key=lambda f: (-_doubt(f.verdict), WEIGHT[f.profile]))

    @property
    def others(self) -> list[Finding]:
        """What the other runs that decided found."""
        return [f for f in self.findings if f is not self.decisive and not _doubt(f.verdict)]


@dataclass
class Paper:
    """One notebook's claims and open questions."""

    notebook: str
    title: str
    claims: dict[str, Claim] = field(default_factory=dict)
    questions: list[dict[str, str]] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Verdict -> how many claims, in the order of record.VERDICTS."""
        found = Counter(claim.decisive.verdict for claim in self.claims.values())
        return {verdict: found[verdict] for verdict in record.VERDICTS}


def collect(reports: str | Path) -> list[Paper]:
    """Read all reports that judge claims, by notebook."""
    papers: dict[str, Paper] = {}
    for profile in reversed(WEIGHT):  # the largest run's order of the claims stands
        for file in sorted((Path(reports) / profile).glob("[!.]*/metrics.json")):
            metrics, run = read_json(file), read_json(file.with_name("run.json"))
            if metrics.get("claims"):
                name = metrics["notebook"]
                paper = papers.setdefault(name, Paper(name, name))
                _add(paper, file.parent, profile, metrics, run)
    return [papers[name] for name in sorted(papers)]


def _add(paper: Paper, report: Path, profile: str, metrics: dict, run: dict) -> None:
    cells = pages.cells(report)
    paper.title = pages.title(cells) or paper.title
    paper.questions = paper.questions or list(_questions(report))
    href = f"{profile}/{report.name}/index.html#takeaways"
    for row in metrics["claims"]:
        claim = paper.claims.setdefault(row["claim"], Claim(row["claim"]))
        claim.cell = claim.cell or _cell_of(row["claim"], cells)
        if not BORROWED.search(row["test"]):
            number, date = _number(row["number"]), str(run.get("date", ""))[:10]
            found = Finding(profile, OWN.sub("", row["test"]), number, row["verdict"], href, date)
            claim.findings.append(found)
    paper.claims = {text: claim for text, claim in paper.claims.items() if claim.findings}


def _doubt(verdict: str) -> int:
    return UNDECIDED.index(verdict) + 1 if verdict in UNDECIDED else 0


def _number(value: Any) -> str:
    """Write a claim's number as its table does."""
    return "" if value is None else value if isinstance(value, str) else f"{value:.3g}"


def _cell_of(text: str, cells: list[dict[str, Any]]) -> str:
    """Return the id of the code cell that holds a claim's words."""
    holds = (c.get("id", "") for c in cells if c["cell_type"] == "code" and text in c["source"])
    return next(holds, "")


def _questions(report: Path) -> Iterator[dict[str, str]]:
    """Read the table of open questions from an executed notebook."""
    from bs4 import BeautifulSoup

    notebook = read_json(report / "notebook.ipynb")
    outputs = (o for cell in notebook.get("cells", []) for o in cell.get("outputs", []))
    for output in outputs:
        table = "".join(output.get("data", {}).get("text/html", ""))
        if "<caption>Open questions" in table:
            rows = BeautifulSoup(table, "html.parser").find_all("tr")
            head, *body = ([c.get_text() for c in row.find_all(["th", "td"])] for row in rows)
            yield from (dict(zip(head, row, strict=True)) for row in body)


def render(reports: str | Path) -> Path:
    """Write `reports/claims.html`; return the page."""
    page = pages.fill("claims.html.j2", papers=collect(reports), verdicts=record.VERDICTS)
    files.write_atomic(Path(reports) / "claims.html", page)
    return Path(reports) / "claims.html"


def summary(reports: str | Path) -> str:
    """Return a Markdown table: how many claims of each paper held, and how many did not."""
    lines = [f"| paper | {' | '.join(record.VERDICTS)} |", "|---" * 6 + "|"]
    for paper in collect(reports):
        counts = " | ".join(str(count) for count in paper.counts.values())
        lines.append(f"| [{paper.title}](reports/claims.html#{paper.notebook}) | {counts} |")
    return "\n".join(lines) + "\n"


def write_readme(readme: str | Path, reports: str | Path) -> None:
    """Put the summary between its marks in README.md."""
    pages.replace_between(readme, README_MARKS, summary(reports))
