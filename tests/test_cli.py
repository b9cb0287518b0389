"""The command line: what it says and what it exits with."""

import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from click.testing import CliRunner

import colorlib
from colorlib import datasets
from colorlib.batch import cli
from colorlib.batch import run as runner

PARAMETERS = f"%%parameters\n{tiny.PARAMETERS}"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Two notebooks whose execution is played; the second fails on `seed` 7."""
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(colorlib, "__file__", str(tmp_path / "colorlib" / "__init__.py"))
    for name in ("01_good", "02_other", "studies/01_good"):
        tiny.write(tmp_path, name, "# Title", PARAMETERS)

    tiny.keep(tmp_path / "notebooks/params/limits.yml", {"common": {"seed": [0, None]}})

    def execute(each, environ):
        if each.task.parameters.get("seed") == 7 and each.task.name == "02_other":
            raise runner.RunError("in 'Data': ValueError: seven")
        tiny.leave_report(each.task.partial, each.task.name, each.task.profile)

    monkeypatch.setattr(runner, "execute", execute)
    return tmp_path


def call(*words):
    return CliRunner().invoke(cli.main, words)


def test_run_says_what_became_of_each(project):
    result = call("run", "--profile", "smoke")
    assert result.exit_code == 0, result.output
    assert "01_good   finished" in result.stdout
    assert (project / "reports/index.html").exists()
    assert "skipped" in call("run", "01", "--profile", "smoke").stdout
    assert "finished" in call("run", "01", "--profile", "smoke", "--force").stdout


def test_studies_are_run_when_asked_for(project):
    result = call("run", "--studies", "--profile", "smoke")
    assert result.exit_code == 0 and "studies/01_good  finished" in result.stdout
    assert (project / "reports/smoke/studies/01_good/index.html").exists()


def test_a_command_is_executed_again_with_the_fast_environment(project, monkeypatch):
    calls = []
    monkeypatch.setattr(cli.speed, "re_execute", lambda: calls.append(1))
    assert call("--version").exit_code == 0 and not calls
    assert call("status").exit_code == 0 and calls == [1]


def test_a_failure_is_in_the_table_and_in_the_exit_status(project):
    result = call("run", "-p", "seed", "7", "-p", "rate", "1e-3")
    assert result.exit_code == 1
    assert "01_good   finished" in result.stdout
    failed = next(line for line in result.stdout.splitlines() if line.startswith("02_other"))
    assert failed.split()[1] == "failed"
    assert failed.endswith("in 'Data': ValueError: seven")


def test_a_dry_run_writes_nothing(project):
    result = call("run", "--dry-run")
    assert result.exit_code == 0
    assert "would run  3 min 0 s  new" in result.stdout
    assert not (project / "reports").exists()


def test_a_bug_is_not_dressed_up(project, monkeypatch):
    monkeypatch.setattr(runner, "run", lambda *_, **__: 1 / 0)
    assert isinstance(call("run").exception, ZeroDivisionError)


def test_status_lists_the_reports(project):
    call("run", "01", "--profile", "smoke")
    head, line = call("status").stdout.splitlines()
    assert head.split() == ["notebook", "profile", "made", "code"]
    assert line.split() == ["01_good", "smoke", "2025-01-02", "of", "unknown", "code"]


def test_data_lists_the_sets(project, monkeypatch):
    monkeypatch.setattr(datasets, "status", lambda: [("roses", "downloads 2 MB", "CC0")])
    head, line = call("data").stdout.splitlines()
    assert head == "data set  here            licence" and line == "roses     downloads 2 MB  CC0"


def test_compare_exits_by_the_verdict(project):
    result = call("compare", "--profile", "smoke")
    assert result.exit_code == 1
    assert "not committed" in result.stdout


SLOW = ["torch", "papermill", "nbconvert", "nbformat", "fastai", "matplotlib", "colorlib.colorize"]


@pytest.mark.parametrize("words", ["--help", "status", "run --dry-run"])
def test_what_only_tells_imports_nothing_slow(project, monkeypatch, words):
    call("run", "01")
    monkeypatch.setenv("PYTHONPATH", str(Path(cli.__file__).parents[2]))
    code = (
        f"import sys; from colorlib.batch.cli import main; "
        f"main({words.split()}, standalone_mode=False); "
        f"print([name for name in {SLOW} if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.stdout.splitlines()[-1] == "[]", shown.stderr
