"""The committed reports are of this code's notebooks, small enough, and what README.md says."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from colorlib import notebooks, pages, record

ROOT = Path(__file__).parents[1]
LARGEST = 3_000_000  # bytes of one report folder


def git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def committed() -> dict[str, int]:
    """Return path -> bytes of the files of reports in the newest commit."""
    lines = git("ls-tree", "-r", "-l", "HEAD", "--", "reports").splitlines()
    return {line.split("\t")[1]: int(line.split()[3]) for line in lines}


def content(path: str) -> dict:
    return json.loads(git("show", f"HEAD:{path}"))


FILES = committed()
METRICS = [path for path in FILES if path.endswith("/metrics.json")]

pytestmark = pytest.mark.skipif(not git("rev-parse", "HEAD"), reason="not a git checkout")


def test_there_are_reports_and_each_is_small():
    sizes: Counter[str] = Counter()
    for path, size in FILES.items():
        sizes["/".join(path.split("/")[:3])] += size
    assert METRICS
    too_large = {
        folder: size
        for folder, size in sizes.items()
        if size > LARGEST and not folder.endswith("index.html")
    }
    assert too_large == {}


@pytest.mark.parametrize("path", METRICS)
def test_a_report_is_whole_and_readme_prints_its_numbers(path):
    metrics = content(path)
    record.check_metrics(metrics)
    folder = path.removesuffix("metrics.json")
    assert {folder + name for name in ("notebook.ipynb", "index.html", "run.json")} <= FILES.keys()
    readme = git("show", "HEAD:README.md")
    for row in pages.results_rows(metrics, path.removeprefix("reports/")):
        assert row in readme, f"{row}: not in README.md; run `make readme`"


@pytest.mark.parametrize("path", [p for p in METRICS if p.startswith("reports/laptop/")])
def test_the_laptop_report_was_made_with_the_notebooks_own_values(path):
    run = content(path.replace("metrics.json", "run.json"))
    defaults = {p.name: p.default for p in notebooks.parameters(run["notebook"]).values()}
    assert run["parameters"] == defaults


@pytest.mark.parametrize("path", [p for p in FILES if p.endswith(("run.json", ".ipynb", ".html"))])
def test_a_report_names_no_folder_of_the_machine_that_made_it(path):
    text = git("show", f"HEAD:{path}")
    assert not [place for place in ("/home/", "/root/", "/Users/", "/tmp/") if place in text]
