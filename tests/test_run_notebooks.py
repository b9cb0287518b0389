"""Every notebook runs at smoke from any folder and prints the same again; so do larger profiles.

The parameter files of the overnight and paper profiles are executed at the sizes of smoke.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import papermill
import pytest

from colorlib import downloads, notebooks, record
from colorlib.batch import run as runner

SANITIZE = Path(__file__).with_name("nbval_sanitize.cfg")
DATA = ("data", "pairs", "more_pairs", "pairs_data")  # smoke's are here, and few
FETCHED = ("auto", "imagenet", "file", *downloads.ARCHIVES)


def with_kernel(run: Callable[[], Any]) -> Any:
    """Run; once more where the kernel did not come up (its port was taken: nothing has run)."""
    for left in (2, 1, 0):
        try:
            return run()
        except RuntimeError as error:
            if runner.NO_KERNEL not in str(error) or not left:
                raise


def execute(name: str, out: Path, values: dict[str, Any]) -> None:
    """Run a notebook from another folder, as a user of papermill would."""
    given = {**values, "report_dir": str(out / "report")}
    given |= {"resume": False} if "resume" in notebooks.parameters(name) else {}
    places = notebooks.path(name), out / "executed.ipynb"
    # saved once: after every cell it would take a fifth of the time
    how = {"cwd": out, "progress_bar": False, "request_save_on_cell_execute": False}
    with_kernel(lambda: papermill.execute_notebook(*places, given, **how))


def reduced(name: str, profile: str) -> dict[str, Any]:
    """Return a profile's values at the sizes of smoke, without what would have to be fetched."""
    own = {key: parameter.default for key, parameter in notebooks.parameters(name).items()}
    smoke = notebooks.profile_parameters(name, "smoke")
    if profile == "smoke":
        return {**own, **smoke}
    values = notebooks.profile_parameters(name, profile)
    for key, value in values.items():
        if value is True:  # asks for trainings of other notebooks, at their own sizes
            values[key] = own[key]
        elif key in smoke and _is_size(value):
            values[key] = smoke[key]
        elif key in DATA or (isinstance(value, str) and (value in FETCHED or "/" in value)):
            values[key] = smoke.get(key, own[key])
        elif _is_size(value) and isinstance(value, list):  # of seeds: no more than on a laptop
            values[key] = value[: len(own[key])]
    return {**own, **smoke, **values}


def _is_size(value: Any) -> bool:
    members = value if isinstance(value, list) else [value]
    return bool(members) and all(type(member) in (int, float) for member in members)


def with_rates(name: str) -> dict[str, Any]:
    """Return smoke's values, and the rates and weights that only a larger profile names."""
    values = notebooks.profile_parameters(name, "smoke")
    for profile in ("overnight", "paper"):
        larger = notebooks.profile_parameters(name, profile)
        values |= {k: v for k, v in larger.items() if k not in values and type(v) is float}
    return values


def larger() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the runs that try the options of larger profiles: one of a notebook where it can."""
    runs = {}
    for name in notebooks.names("all"):
        smoke, *both = (reduced(name, profile) for profile in ("smoke", "overnight", "paper"))
        overnight, paper = ({k: v for k, v in b.items() if v != smoke[k]} for b in both)
        merged = {**overnight, **paper}
        options = {key for key, value in merged.items() if not _is_size(value)}
        lost = {k for k, v in overnight.items() if v != merged[k] and k in options}
        if lost - {"profile", "studies"}:
            runs[f"{name} overnight"] = (name, {**smoke, **overnight})
        if options - {"profile", "studies", "study_pairs"}:  # else the run at smoke has tried it
            runs[f"{name} paper"] = (name, {**smoke, **merged})
    return runs


@pytest.fixture(scope="module", params=notebooks.names("all"))
def executed(request, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param.replace("/", "-"))
    execute(request.param, out, with_rates(request.param))
    return request.param, out


def test_a_smoke_run_leaves_a_valid_report(executed):
    name, out = executed
    metrics, run = record.read(out / "report")
    assert metrics["notebook"] == name and metrics["profile"] == "smoke"
    assert set(run["parameters"].get("studies", [])) <= metrics["studies"].keys()
    assert list((out / "report" / "figures").glob("*.png"))


def test_every_picture_has_alt_text_and_every_cell_ran(executed):
    cells = json.loads((executed[1] / "executed.ipynb").read_text())["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    assert all(c["execution_count"] for c in code)
    shown = [o for c in code for o in c["outputs"] if "image/png" in o.get("data", {})]
    assert shown and all(o["metadata"]["image/png"]["alt"].strip() for o in shown)
    said = [o for c in code for o in c["outputs"] if o.get("name") == "stderr"]
    assert ["".join(o["text"]) for o in said] == []


def test_nbval_finds_the_same_outputs_again(executed):
    notebook = executed[1] / "executed.ipynb"
    nbval = ["-p", "nbval.plugin", "--nbval", "--nbval-current-env"]
    nbval += ["--nbval-sanitize-with", str(SANITIZE)]
    alone = ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(executed[1])]
    command = [sys.executable, "-m", "pytest", *nbval, *alone, str(notebook)]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # which take a second

    def run() -> str:
        done = subprocess.run(command, cwd=executed[1], env=environment, capture_output=True)
        said = done.stdout.decode() + done.stderr.decode()
        if runner.NO_KERNEL in said:
            raise RuntimeError(said)
        assert done.returncode == 0, said[-4000:]
        return said

    said = with_kernel(run)
    assert " passed" in said and "failed" not in said


@pytest.mark.parametrize("run", larger())
def test_the_parameter_files_of_larger_profiles_run(run, tmp_path):
    name, values = larger()[run]
    execute(name, tmp_path, values)
    metrics, _ = record.read(tmp_path / "report")
    assert metrics["profile"] == values["profile"]
