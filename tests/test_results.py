"""What the reports found: the largest run that tested counts, nothing is lost or typed by hand."""

import copy
import json
from pathlib import Path

import pytest
import tiny
from bs4 import BeautifulSoup

from colorlib import notebooks, record
from colorlib.batch import results

OVERNIGHT = {"profile": "overnight", "date": "2025-01-02", "commit": "abc", "scale": "4 %"}
QUESTION = dict(
    zip(record.QUESTION, ("A-01", "x < y", "y", "it is said twice", "0.1"), strict=True)
)


def claim(text, number, verdict, **more):
    row = {"claim": text, "section": "IV", "test": "a test", "number": number, "verdict": verdict}
    return row | {"trainings": 3, "scale": "4 %", "origin": None} | more


def write_report(reports: Path, place: str, claims=(), questions=(), title="") -> None:
    """Write what is read of a report."""
    folder = reports / place
    folder.mkdir(parents=True)
    profile, _, name = place.partition("/")
    metrics = {**tiny.METRICS, "profile": profile, "notebook": name}
    metrics |= {"claims": list(claims), "questions": list(questions)}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "run.json").write_text(json.dumps({"date": "2025-03-04T05:06:07+00:00"}))
    (folder / "notebook.ipynb").write_text(json.dumps(tiny.notebook(f"# {title or place}")))


@pytest.fixture
def reports(tmp_path):
    folder = tmp_path / "reports"
    laptop = [
        claim("bolder", "1.2", "supported"),
        claim("faster", "2.0", "contradicted"),
        claim("borrowed", "9.0", "supported", origin=OVERNIGHT),
        claim("never", None, "not run yet"),
        claim("twice", "1", "supported", test="against loops"),
        claim("twice", "2", "inconclusive", test="against the library"),
    ]
    overnight = [
        claim("bolder", "+1 [0, 2]", "inconclusive", trainings=5),
        claim("faster", None, "not run yet"),
        claim("never", None, "not testable"),
    ]
    write_report(folder, "laptop/01_good", title="A **good** paper")
    write_report(folder, "laptop/studies/01_good", laptop, [QUESTION], title="Its studies")
    write_report(folder, "overnight/studies/01_good", overnight)
    write_report(folder, "smoke/studies/01_good", [claim("bolder", "7", "contradicted")])
    return folder


def test_the_largest_run_that_tested_counts(reports):
    (paper,) = results.collect(reports)
    found = {
        key: (c.decisive["profile"], c.decisive["verdict"], c.decisive["number"])
        for key, c in paper.claims.items()
    }
    assert found == {
        ("bolder", 1): ("overnight", "inconclusive", "+1 [0, 2]"),
        ("faster", 1): ("laptop", "contradicted", "2.0"),
        ("borrowed", 1): ("overnight", "supported", "9.0"),
        ("never", 1): ("overnight", "not testable", None),
        ("twice", 1): ("laptop", "supported", "1"),
        ("twice", 2): ("laptop", "inconclusive", "2"),
    }
    others = {key[0]: [f["number"] for f in c.others] for key, c in paper.claims.items()}
    assert {text: numbers for text, numbers in others.items() if numbers} == {"bolder": ["1.2"]}


def test_who_ran_a_study_goes_before_who_quotes_it(reports):
    write_report(reports, "overnight/01_good", [claim("borrowed", "9.1", "supported")])
    (paper,) = results.collect(reports)
    found = paper.claims["borrowed", 1]
    assert found.decisive["number"] == "9.1" and found.others == []
    assert found.decisive["href"] == "overnight/01_good/index.html"
    assert found.decisive["date"] == "2025-03-04"


def test_lesson_and_studies_are_one_paper(reports):
    write_report(reports, "laptop/02_other", [claim("a", "1", "supported")])
    titles = [(paper.name, paper.title) for paper in results.collect(reports)]
    assert titles == [("01_good", "A good paper"), ("02_other", "laptop/02_other")]
    assert list(results.collect(reports)[0].questions.values()) == [QUESTION]


def test_a_paper_has_its_lesson_s_title_of_whichever_profile(tmp_path):
    write_report(
        tmp_path, "laptop/studies/01_good", [claim("a", "1", "supported")], title="Studies"
    )
    write_report(tmp_path, "overnight/01_good", [claim("a", "2", "supported")], title="A paper")
    write_report(tmp_path, "overnight/studies/01_good", [claim("b", "3", "supported")])
    (paper,) = results.collect(tmp_path)
    assert paper.title == "A paper" and sum(paper.counts.values()) == 2
    assert paper.claims["a", 1].decisive["number"] == "2"


def test_every_claim_is_counted_once(reports):
    (paper,) = results.collect(reports)
    assert list(paper.counts) == list(record.VERDICTS)
    assert list(paper.counts.values()) == [2, 1, 2, 1, 0]


def test_the_claims_page_shows_each_with_trainings_and_scale(reports):
    page = BeautifulSoup(results.render(reports)[0].read_text(), "html.parser")
    rows = [row.get_text(" ", strip=True) for row in page.find(class_="claims").find_all("tr")]
    assert rows[0] == "the paper says verdict number trainings scale what we compare where"
    bolder = "bolder IV inconclusive +1 [0, 2] 5 4 % a test laptop: supported, 1.2 overnight"
    assert f"{bolder} 2025-03-04" in rows and len(rows) == 7
    assert "x < y" in page.find("details").get_text()
    links = {link["href"] for link in page.find_all("a")}
    assert {"#01_good", "overnight/studies/01_good/index.html"} <= links
    named = {element["id"] for element in page.find_all(id=True)}
    assert {link[1:] for link in links if link.startswith("#")} <= named
    assert [h.name for h in page.find_all(["h1", "h2", "h3"])] == ["h1", "h2"]


def test_a_claim_says_where_it_is_supported_and_what_is_off_zero_why_it_is_open(reports):
    page = BeautifulSoup(results.render(reports)[0].read_text(), "html.parser")
    assert "supported where" not in page.get_text(), "no studies say so"
    row = claim("bolder", "+1.20 [+0.10, +2.00]", "inconclusive", test="a minus b; control: c")
    write_report(reports, "paper/studies/01_good", [row, {**row, "claim": "farther"}])
    lines = "# the rules\nIV | {} | a minus b; control: c | x: y: z | {} 0 | \n"
    cell = lines.format("bolder", "above") + lines.format("farther", "below")
    notebook = tiny.notebook("# Its studies", f'C = """{cell}"""')
    (reports / "paper/studies/01_good/notebook.ipynb").write_text(json.dumps(notebook))
    (paper,) = results.collect(reports)
    found = [paper.claims[text, 1].decisive["rule"] for text in ("bolder", "farther", "twice")]
    assert found == ["above 0", "below 0", ""]
    page = BeautifulSoup(results.render(reports)[0].read_text(), "html.parser")
    cells = [cell.get_text(" ", strip=True) for cell in page.select("td[data-label^=what]")]
    assert "a minus b; control: c (supported where above 0) Off 0, and yet" in cells[0]
    assert "its control passes too" in cells[0] and "inconclusive" not in cells[2]


def test_a_paper_waits_for_its_studies_and_then_has_claims(reports, monkeypatch):
    monkeypatch.setenv("COLORLIB_ROOT", str(reports.parent))
    for name in ("05_late", "studies/05_late", "06_other", "studies/speed"):
        tiny.write(reports.parent, name, "# T")
        write_report(reports, f"laptop/{name}") if name != "studies/05_late" else None
    waiting = "not run yet"
    page = BeautifulSoup(results.render(reports)[0].read_text(), "html.parser")
    rows = [row.get_text(" ", strip=True) for row in page.table.tbody.find_all("tr")]
    assert rows == ["A good paper 2 1 2 1 0", f"laptop/05_late {waiting}"]
    write_report(reports, "overnight/studies/05_late", [claim("a", "1", "supported")])
    page = BeautifulSoup(results.render(reports)[0].read_text(), "html.parser")
    rows = [row.get_text(" ", strip=True) for row in page.table.tbody.find_all("tr")]
    assert rows[1] == "laptop/05_late 1 0 0 0 0"


def test_no_report_is_an_empty_page(tmp_path):
    assert results.collect(tmp_path) == []
    assert "Every claim" in results.render(tmp_path)[0].read_text()


def test_a_headline_is_the_main_row_beside_the_paper(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    tiny.write(tmp_path, "01_good", 'MAIN_ROW: str = "ours"')
    metrics = copy.deepcopy(tiny.METRICS)
    ours = metrics["results"]["ours"]
    metrics["results"]["better"] = {**ours, "gain_over_grey": 9.0}
    begin = "gain over grey +1.50 dB [+0.00, +30.00], mean colour +1.50; "
    for paper, told in (
        ({"psnr": 24.33}, "PSNR 21.00 dB, the paper 24.33 dB"),
        ({"ours": {"gain_over_grey": 2.0}, "psnr": 3.0}, "the paper +2.00 dB"),
        ({"A rival": {"psnr": 9.0}, "Ours": {"psnr": 3.0}}, "PSNR 21.00 dB, the paper 3.00 dB"),
    ):
        assert results.headline({**metrics, "paper": paper}) == f"{begin}{told}; 12 pictures"
    assert results.headline({**metrics, "results": {}}) == results.headline({}) == ""
    metrics["data"]["name"] = "pairs"
    assert results.headline(metrics).endswith("; 12 pairs")
    few = {row: {**scores, "n": 4} for row, scores in metrics["results"].items()}
    assert results.headline({**metrics, "results": few}) == "4 pairs: too few to compare"
    tiny.write(tmp_path, "01_good", "print(1)")
    assert results.headline(metrics) == "2 ways on the same 12 pictures"


def changed(reports, **results):
    metrics = json.loads((reports / "laptop/01_good/metrics.json").read_text())
    metrics["results"] = {
        row: {**metrics["results"]["ours"], **own} for row, own in results.items()
    }
    (reports / "laptop/01_good/metrics.json").write_text(json.dumps(metrics))
    return metrics


def test_readme_has_a_line_a_paper_of_its_largest_run(reports, monkeypatch):
    monkeypatch.setenv("COLORLIB_ROOT", str(reports.parent))
    tiny.write(reports.parent, "01_good", 'MAIN_ROW: str = "ours"')
    source = notebooks.path("01_good")
    about = json.loads(source.read_text()) | {
        "metadata": {"colorlib": {"paper": "Ours", "learned": "That much."}}
    }
    source.write_text(json.dumps(about))
    metrics = changed(reports, ours={}, mean_ab={"delta_e": 8.0}, grey_floor={"delta_e": 12.0})
    readme = reports.parent / "README.md"
    readme.write_text("# A\n\n<!-- results -->\nold\n<!-- end of results -->\n\nwords é\n", "utf-8")
    for _ in range(2):  # written again it stays the same
        results.write_readme(readme, reports)
        before, _, rest = readme.read_text("utf-8").partition("<!-- results -->\n")
        table, _, after = rest.partition("<!-- end of results -->\n\nwords é\n")
        assert before == "# A\n\n" and after == ""
    *_, row = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    run = f"[laptop](reports/laptop/01_good/notebook.ipynb), {metrics['results']['ours']['n']}"
    assert row[0] == "[01 Ours](notebooks/01_good.ipynb)" and row[1].startswith(run)
    assert row[2:] == ["+1.5 [+0.0, +30.0]", "9.0 (12.0, 8.0)", "That much."]
    larger = {**metrics, "profile": "overnight"}
    (folder := reports / "overnight/01_good").mkdir()
    (folder / "metrics.json").write_text(json.dumps(larger))
    assert "[overnight]" in results.lines(reports), "the largest"
    told = {"colorlib": {"learned": "That much.", "told_by": "laptop"}}
    source.write_text(json.dumps(about | {"metadata": told}))
    assert "[laptop]" in results.lines(reports), "the one it names"
    source.write_text(json.dumps(about | {"metadata": {}}))
    assert "01" not in results.lines(reports), "who learned nothing has no line"


def test_the_page_of_results_has_all_rows_of_the_floors_pictures(reports):
    changed(reports, ours={}, u_net={}, hints={"n": 1}, mean_ab={}, grey_floor={})
    page = BeautifulSoup(results.render(reports)[1].read_text("utf-8"), "html.parser")
    table = next(t for t in page.find_all("table") if "A good paper – laptop run" in t.caption.text)
    rows = [[c.text for c in row.find_all(["th", "td"])] for row in table.find_all("tr")]
    assert [row[0] for row in rows] == ["method", "grey", "mean colour", "ours", "u net"]
    assert rows[1][4] == "0" and rows[3][4] == "+1.50 [+0.00, +30.00]"
