"""What is taught from: the way through agrees with the reports, every exercise says its grade."""

import io
import json
import re
import subprocess
import tarfile
from pathlib import Path

import nbformat
import pytest
import test_contract as contract

from colorlib import files, notebooks
from colorlib.batch import plan, teaching

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "notebooks" / "README.md"
ROW = re.compile(r"^\| \[?`?(\d\d_\w+).*?\| (\d+) \| (\d+|–) \| (\d+|–) \|", re.M)


@pytest.fixture(scope="module")
def committed(tmp_path_factory) -> Path:
    """The committed reports without their pictures."""
    folder = tmp_path_factory.mktemp("committed")
    wanted = [":(glob)reports/**/*.json", ":(glob)reports/**/notebook.ipynb"]
    done = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD", *wanted], capture_output=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder)
    return folder / "reports"


def guide() -> str:
    return GUIDE.read_text(encoding="utf-8")


def test_the_way_through_lists_every_lesson_and_its_links_resolve():
    rows = [name for name, *_ in ROW.findall(guide())]
    assert rows == sorted(rows) and set(notebooks.names()) <= set(rows)
    for target in re.findall(r"\]\(([^)#]+)", guide()):
        assert (GUIDE.parent / target).exists(), target


def test_its_minutes_are_those_of_the_reports(committed):
    checked = 0
    assert "| notebook | read | laptop | overnight |" in guide()
    for name, read, *minutes in ROW.findall(guide()):
        cells = notebooks.cells(notebooks.path(name))
        words = sum(len(c["source"].split()) for c in cells if c["cell_type"] == "markdown")
        assert words / 200 < int(read) < words / 20, f"{name}: {words} words of prose"
        for profile, said in zip(("laptop", "overnight"), minutes, strict=True):
            run = files.read_json(committed / profile / name / "run.json")
            if "wall_seconds" in run:
                before = run["parameters"].get("weights")  # other runs trained them
                took = (run["wall_seconds"] + sum(run["seconds"].values()) * bool(before)) / 60
                assert said.isdigit(), f"{name}, {profile}: took {took:.1f} minutes"
                assert took / 2 - 1 < int(said) < 2 * took + 1, f"{name}, {profile}: {took:.1f}"
                checked += 1
    assert checked


def exercises(name: str) -> list[str]:
    """The exercises of a notebook, each with its solution; none in one of studies."""
    cells = notebooks.cells(notebooks.path(name))
    found = [c["source"] for c in cells if c["source"].startswith("## Exercises")]
    return re.split(r"^\d+\. ", "".join(found), flags=re.M)[1:]


@pytest.mark.parametrize("name", notebooks.names())
def test_exercises_are_graded_and_begin_with_five_minutes(name):
    found = [re.match(r"\*\*(Warm-up|Change|Extend) \(([^)]+)\)\.\*\*", e) for e in exercises(name)]
    assert found and all(found)
    assert list(dict.fromkeys(match[1] for match in found)) == ["Warm-up", "Change", "Extend"]
    assert found[0][2] == "five minutes"


@pytest.fixture(scope="module")
def handed_out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("class") / "student"
    try:
        return teaching.hand_out(folder)
    except plan.RunError:
        pytest.skip("not a git checkout")


def with_solutions(folder: Path) -> list[Path]:
    shown = [*folder.glob("notebooks/**/*.ipynb"), *folder.glob("reports/[!.]*/**/*.ipynb")]
    shown += folder.glob("reports/[!.]*/**/*.html")
    return [file for file in shown if "<summary>Solution" in file.read_text(encoding="utf-8")]


def test_no_solution_is_handed_out(handed_out):
    assert len(with_solutions(ROOT)) > 10 and with_solutions(handed_out) == []
    assert (handed_out / "Makefile").is_file() and not (handed_out / "tests").exists()


def test_handed_out_notebooks_keep_the_contract(handed_out, monkeypatch):
    given = {name: contract.cells(name) for name in notebooks.names("all")}
    wanted = {name: len(exercises(name)) for name in given}
    monkeypatch.setenv("COLORLIB_ROOT", str(handed_out))
    for name in given:
        nbformat.validate(json.loads(notebooks.path(name).read_text(encoding="utf-8")))
        contract.test_parameters_are_typed_literals_with_help(name)
        contract.test_sources_hold_no_output(name)
        answers = [s for s in contract.cells(name) if s.startswith("# answer to exercise")]
        assert [s for s in contract.cells(name) if s not in answers] == given[name]
        assert len(answers) == wanted[name]


def test_what_is_there_is_not_overwritten(tmp_path):
    with pytest.raises(plan.RunError, match="is there already"):
        teaching.hand_out(tmp_path)
    assert list(tmp_path.iterdir()) == []
