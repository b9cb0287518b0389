"""The claims ledger: the largest run that decided counts, and nothing is lost or typed by hand."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest
import tiny
from bs4 import BeautifulSoup

from colorlib import figures, ledger, record

ROOT = Path(__file__).parents[1]
CELL = """claims = [record.claim("bolder", "chroma", 1, "held")]"""


def write_report(reports: Path, profile: str, claims: list[dict], questions: str = "") -> None:
    """Write what the ledger reads of a report."""
    folder = reports / profile / "01_good"
    folder.mkdir(parents=True)
    metrics = {**tiny.METRICS, "profile": profile, "claims": claims}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "run.json").write_text(json.dumps({"date": "2025-01-02T03:04:05+00:00"}))
    notebook = tiny.notebook("# A **good** paper", CELL, "table()")
    shown = {"output_type": "display_data", "metadata": {}, "data": {"text/html": questions}}
    notebook["cells"][2]["outputs"] = [shown] if questions else []
    (folder / "notebook.ipynb").write_text(json.dumps(notebook))


def questions_table(monkeypatch) -> str:
    """Return the HTML that a notebook shows for its open questions."""
    shown = []
    monkeypatch.setattr(figures, "_display", lambda content, *_: shown.append(content))
    rows = [{"id": "A-01", "the paper says": "x < y", "we do": "y", "how much it matters": "0.1"}]
    figures.table(rows, caption="Open questions of paper 01")
    return shown[0]["text/html"]


def claim(text, number, verdict, test="a test"):
    return record.claim(text, test, number, verdict)


@pytest.fixture
def reports(tmp_path, monkeypatch):
    folder = tmp_path / "reports"
    table = questions_table(monkeypatch)
    laptop = [
        claim("bolder", 1.23456, "held"),
        claim("faster", 2.0, "did not hold"),
        claim("borrowed", 9.0, "held", "a study [evening, 2025-01-01]"),
        claim("never", None, "not run yet"),
    ]
    evening = [
        claim("bolder", "+1 [0, 2]", "partly"),
        claim("faster", None, "not run yet"),
        claim("borrowed", 9.0, "held", "a study [this run, evening profile]"),
        claim("never", None, "not testable here"),
    ]
    write_report(folder, "laptop", laptop, table)
    write_report(folder, "evening", evening)
    write_report(folder, "smoke", [claim("bolder", 7.0, "did not hold")])
    return folder


def test_the_largest_run_that_decided_counts(reports):
    (paper,) = ledger.collect(reports)
    decisive = {text: c.decisive for text, c in paper.claims.items()}
    found = {text: (f.profile, f.verdict, f.number) for text, f in decisive.items()}
    assert found == {
        "bolder": ("evening", "partly", "+1 [0, 2]"),
        "faster": ("laptop", "did not hold", "2"),
        "borrowed": ("evening", "held", "9"),
        "never": ("laptop", "not run yet", ""),
    }
    assert decisive["borrowed"].test == "a study"
    others = {text: [(f.profile, f.number) for f in c.others] for text, c in paper.claims.items()}
    assert others == {"bolder": [("laptop", "1.23")], "faster": [], "borrowed": [], "never": []}


def test_claims_know_their_cell_and_papers_their_title_and_questions(reports):
    (paper,) = ledger.collect(reports)
    assert paper.title == "A good paper"
    assert {text: c.cell for text, c in paper.claims.items() if c.cell} == {"bolder": "c1"}
    assert paper.questions == [
        {"id": "A-01", "the paper says": "x < y", "we do": "y", "how much it matters": "0.1"}
    ]


def test_every_claim_is_counted_once(reports):
    (paper,) = ledger.collect(reports)
    assert list(paper.counts) == list(record.VERDICTS)
    assert sum(paper.counts.values()) == len(paper.claims) == 4
    assert "| 1 | 1 | 1 | 0 | 1 |" in ledger.summary(reports)


def test_the_page_links_to_what_exists(reports):
    page = BeautifulSoup(ledger.render(reports).read_text(), "html.parser")
    rows = [row.get_text(" ", strip=True) for row in page.find_all("tr")]
    assert sum(row.startswith(("bolder", "faster", "borrowed", "never")) for row in rows) == 4
    assert any("x < y" in row for row in rows)
    links = {a["href"] for a in page.find_all("a")}
    assert {"#01_good", "evening/01_good/index.html#takeaways"} <= links
    named = {element["id"] for element in page.find_all(id=True)}
    assert {link[1:] for link in links if link.startswith("#")} <= named
    assert [h.name for h in page.find_all(["h1", "h2", "h3"])] == ["h1", "h2"]


def test_no_report_is_an_empty_ledger(tmp_path):
    assert ledger.collect(tmp_path) == []
    assert "Every claim" in ledger.render(tmp_path).read_text()


def test_the_committed_readme_and_page_show_the_committed_reports(tmp_path):
    archive = ["git", "-C", str(ROOT), "archive", "HEAD", "reports", "README.md"]
    done = subprocess.run(archive, capture_output=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as committed:
        committed.extractall(tmp_path, filter="data")
    papers = ledger.collect(tmp_path / "reports")
    assert papers
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert ledger.summary(tmp_path / "reports") in readme, "run `make readme`"
    page = (tmp_path / "reports" / "claims.html").read_text(encoding="utf-8")
    assert ledger.render(tmp_path / "reports").read_text(encoding="utf-8") == page
