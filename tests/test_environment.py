"""The environment is described once; its other descriptions must agree with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = sum(PROJECT["optional-dependencies"].values(), [*PROJECT["dependencies"]])


LOCKED = list(map(Requirement, (ROOT / "requirements.lock").read_text().splitlines()))


@pytest.mark.parametrize("wanted", WANTED)
def test_every_dependency_is_locked_to_a_version_it_allows(wanted):
    requirement = Requirement(wanted)
    if requirement.name == "torch":  # installed first, on its own: its build decides CPU or CUDA
        assert str(requirement.specifier) in (ROOT / "Makefile").read_text()
        return
    same = [p for p in LOCKED if canonicalize_name(p.name) == canonicalize_name(requirement.name)]
    versions = [pin.version for package in same for pin in package.specifier]
    assert versions and all(requirement.specifier.contains(version) for version in versions)


def test_the_lock_pins_everything_and_brings_no_cuda_wheel():
    assert [p for p in LOCKED if [pin.operator for pin in p.specifier] != ["=="]] == []
    assert not [p for p in LOCKED if re.match(r"nvidia-|cuda-|triton|torch$", p.name)]


def test_every_dependency_has_a_reason_beside_it():
    lines = re.findall(r'^  "[^"]+",.*$', (ROOT / "pyproject.toml").read_text(), re.M)
    dependencies = [line for line in lines if re.match(r'  "[a-z0-9]+[\w.-]*([<>=]|")', line)]
    assert len(dependencies) == len(WANTED)
    assert [line for line in dependencies if not re.search(r"#\s+\w+.*\w", line)] == []


def test_conda_and_binder_make_the_same_environment():
    content = yaml.safe_load((ROOT / "environment.yml").read_text())
    (python,) = [d for d in content["dependencies"] if str(d).startswith("python=")]
    allowed = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert allowed.contains(python.removeprefix("python=") + ".0")
    (pip,) = [d["pip"] for d in content["dependencies"] if isinstance(d, dict)]
    torch = next(w for w in PROJECT["dependencies"] if Requirement(w).name == "torch")
    assert pip == [torch, "-r requirements.lock", "-e ."]


def test_ci_calls_make_test_and_readme_gives_both_commands():
    assert re.search(r"^make test$", (ROOT / ".ci/run").read_text(), re.M)
    readme = (ROOT / "README.md").read_text()
    assert "make test" in readme and "make reports" in readme
