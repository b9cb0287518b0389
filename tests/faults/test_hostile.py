"""What others may have written: records, names, requests."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request

import psutil
import pytest
import tiny
from browsing import process, wait
from test_lab import make_lab
from test_pages import displayed, figure, read, report
from tiny import changes, commit, task_of

from colorlib.batch import pages, results, stamps
from colorlib.batch.plan import expectation


def test_a_hostile_commit_is_no_option_of_git(project):
    report, victim = project / "reports/laptop/01_good", project / "victim"
    report.mkdir(parents=True)
    commit(project)
    victim.write_text("precious")
    for evil in (f"--output={victim}", "-O/x", "HEAD", "HEAD\n", "abcdef", "a" * 41, "ABCDEF1"):
        tiny.keep(report / "run.json", {"git": {"commit": evil}})
        assert stamps.status()[0][3] == "of unknown code"
    assert victim.read_text() == "precious"


ODD = [None, True, 3, 1e400, "x", [], [1], {}, {"a": 1}, "2025-13-45"]


@pytest.mark.parametrize("odd", ODD, ids=json.dumps)
def test_odd_but_valid_json_leaves_status_standing(project, odd):
    report, keys = project / "reports/laptop/01_good", ("date", "git", "wall_seconds", "parts")
    forms = [odd, dict.fromkeys(keys, odd), {"git": {"commit": odd, "dirty": odd}}]
    for form in [*forms, {"finished": odd, "files": odd}, {"parts": {"notebook": odd}}]:
        for name in ("run.json", stamps.STAMP, "metrics.json"):
            tiny.keep(report / name, form)
        assert [row[3] for row in stamps.status()] == ["of unknown code"]
        assert changes(task_of()) and expectation(task_of()).seconds > 0
        stamps.refuse_foreign(task_of())


EVIL = "<script>alert(1)</script>"
NASTY = "<img src=x onerror=alert(1)>'\"&{{7*7}}.png"


def test_no_page_runs_what_a_name_or_a_record_holds(project):
    row = {**tiny.METRICS["results"]["ours"]}
    claim = {**tiny.METRICS["claims"][0], "claim": EVIL, "section": EVIL, "number": EVIL}
    metrics = {**tiny.METRICS, "notebook": "01_good", "profile": "laptop", "claims": [claim]}
    metrics["results"] = {**tiny.METRICS["results"], EVIL: row}
    metrics["data"] = {**tiny.METRICS["data"], "name": EVIL}
    printed = {"output_type": "stream", "name": "stdout", "text": f"left out: {EVIL}.jpg\n"}
    outputs = [printed, {**printed, "name": "stderr"}, figure("grid", f"{EVIL} {NASTY}")]
    outputs.append(displayed(**{"png": figure()["data"]["image/png"]}, about={"alt": NASTY}))
    folder = report(project, f"# {EVIL}", outputs=outputs, name="01_good", metrics=metrics)
    about = {"date": EVIL, "place": EVIL, "weights_origin": EVIL, "git": {"commit": EVIL}}
    tiny.keep(folder / "run.json", {"parameters": {"data": EVIL}, **about})
    made = [pages.render(folder), pages.render_index(project / "reports")]
    results.render(project / "reports")
    made += [path for path in (project / "reports").glob("*.html") if path not in made]
    assert {"index.html", "claims.html", "results.html"} <= {path.name for path in made}
    for page in made:
        soup = read(page)
        assert [s for s in soup.find_all("script") if "alert" in s.get_text()] == [], page
        tags = [tag for tag in soup.find_all(True) if {"onerror", "onload"} & tag.attrs.keys()]
        assert tags == [] and "49.png" not in page.read_text(), page
    page = read(made[0])
    assert EVIL in page.get_text() and page.find_all("img")[-1]["alt"] == NASTY


def listening(process):
    """The sockets that a process listens on; none if it has ended meanwhile."""
    try:
        return [s for s in process.net_connections("inet") if s.status == "LISTEN"]
    except psutil.NoSuchProcess:
        return []


@pytest.mark.slow
def test_the_lab_wants_its_token_and_listens_on_this_machine_only(tmp_path):
    command = [*make_lab(), "--no-browser", "--allow-root", "--port=0"]
    with process(command, tmp_path, tmp_path / "log"):
        printed = r"(http://127\.0\.0\.1:(\d+)/)\S*\?token=(\w{40,})"
        [(address, port, token), *_] = wait(
            lambda: re.findall(printed, (tmp_path / "log").read_text()), "the lab's address"
        )
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{address}api/contents")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{address}api/contents?token={token[::-1]}")
        with urllib.request.urlopen(f"{address}api/contents?token={token}") as answer:
            assert answer.status == 200
        family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        sockets = [socket for one in family for socket in listening(one)]
        assert int(port) in {s.laddr.port for s in sockets}
        assert {s.laddr.ip for s in sockets} <= {"127.0.0.1", "::1"}
