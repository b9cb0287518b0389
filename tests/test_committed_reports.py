"""The committed reports are of this code's notebooks, small enough, and what README.md says."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from colorlib import notebooks, record
from colorlib.batch import results

ROOT = Path(__file__).parents[1]
LARGEST = 3_000_000  # bytes of one report folder
WHOLE = {"notebook.ipynb", "index.html", "run.json", "metrics.json"}


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True).stdout


def committed() -> dict[str, int]:
    """Return path -> bytes of the files of reports in the newest commit."""
    lines = git("ls-tree", "-r", "-l", "HEAD", "--", "reports").decode().splitlines()
    return {line.split("\t")[1]: int(line.split()[3]) for line in lines}


def content(path: str) -> str:
    return git("show", f"HEAD:{path}").decode()


FILES = committed()
METRICS = [path for path in FILES if path.endswith("/metrics.json")]

pytestmark = pytest.mark.skipif(not git("rev-parse", "HEAD"), reason="not a git checkout")


def test_there_are_reports_and_each_is_small():
    sizes: Counter[Path] = Counter()
    for metrics in METRICS:
        folder = Path(metrics).parent
        sizes[folder] = sum(size for path, size in FILES.items() if folder in Path(path).parents)
    assert sizes and {path.split("/")[1] for path in METRICS} <= results.SHOWN.keys()
    assert {folder: size for folder, size in sizes.items() if size > LARGEST} == {}


@pytest.mark.parametrize("path", METRICS)
def test_a_report_is_whole_and_where_it_says_it_is(path):
    metrics = json.loads(content(path))
    record.check_metrics(metrics)
    assert path == f"reports/{metrics['profile']}/{metrics['notebook']}/metrics.json"
    assert {path.replace("metrics.json", name) for name in WHOLE} <= FILES.keys()


@pytest.mark.parametrize("path", [p for p in METRICS if p.startswith("reports/laptop/")])
def test_the_laptop_report_was_made_with_the_notebooks_own_values(path):
    run = json.loads(content(path.replace("metrics.json", "run.json")))
    defaults = {n: p.default for n, p in notebooks.parameters(run["notebook"]).items()}
    assert run["parameters"] == defaults


def test_readme_and_the_claims_page_show_the_reports(tmp_path):
    with tarfile.open(fileobj=io.BytesIO(git("archive", "HEAD", "reports"))) as archive:
        archive.extractall(tmp_path)
    reports = tmp_path / "reports"
    lines = f"<!-- results -->\n{results.lines(reports)}<!-- end of results -->"
    assert lines in content("README.md"), "run `make readme`"
    for page in results.render(reports):
        assert page.read_text("utf-8") == content(f"reports/{page.name}")


@pytest.mark.parametrize("path", [p for p in FILES if p.endswith(("run.json", ".ipynb", ".html"))])
def test_a_report_names_no_folder_of_the_machine_that_made_it(path):
    text = content(path)
    assert not [place for place in ("/home/", "/root/", "/Users/", "/tmp/") if place in text]
