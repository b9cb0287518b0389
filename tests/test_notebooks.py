"""Notebooks as plain data: names, parameters, limits, definitions, validation."""

from __future__ import annotations

import inspect
import traceback

import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colorlib import files, notebooks
from colorlib.notebooks import NotebookError, ParameterError

DEFINE = '''%%define
from __future__ import annotations

MAIN_ROW: str = "ours"


def double(x: Tensor) -> Tensor:
    """Return twice x."""
    return 2 * x
'''
CELL = """
profile: str = "laptop"  # which of the four
seed: int = 0  # of everything that draws
rate: float = 1e-4  # of learning
mark: str = "#fff"  # a # in a string
sizes: list[int] = [1, 2]
parts: list[str] = []  # which to run
"""
LIMITS = """
common:
  profile: {choices: [smoke, laptop]}
  device: {choices: [auto, "cuda:[0-9]"]}
  seed: [0, 4294967295]
01_first:
  rate: [1.0e-6, 1]
  sizes: [null, 9]
  parts: {choices: [losses, skips]}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    tiny.write(tmp_path, "01_first", "# First", f"%%parameters{CELL}", DEFINE, "print(1)")
    tiny.write(tmp_path, "03_third", "# Third", f"%%parameters{CELL}")
    tiny.write(tmp_path, "studies/03_third", f"%%parameters{CELL}", "%%define\nPLACE = __name__")
    files.write_atomic(tmp_path / "notebooks/params/limits.yml", LIMITS)
    return tmp_path


def test_names_and_paths(project):
    tiny.write(project, "notes", "# no number, no notebook of ours")
    assert notebooks.names() == ["01_first", "03_third"]
    assert notebooks.names("studies") == ["studies/03_third"]
    assert notebooks.names("all") == ["01_first", "03_third", "studies/03_third"]
    assert notebooks.path("03") == project / "notebooks" / "03_third.ipynb"
    assert notebooks.path("studies/03") == project / "notebooks/studies/03_third.ipynb"
    assert notebooks.full_name("notebooks/studies/03_third.ipynb") == "studies/03_third"
    assert notebooks.path("notebooks/01_first.ipynb") == notebooks.path("01_first")


@pytest.mark.parametrize("name", ["04", "0", "", "studies/01", "studies/"])
def test_an_unknown_name_lists_the_known_ones(project, name):
    with pytest.raises(NotebookError, match=r"unknown notebook.*01_first, 03_third, studies/03"):
        notebooks.path(name)


def test_load_executes_definitions_only_and_once(project, capsys):
    module, digest = notebooks.load("01"), notebooks.define_hash("01_first")
    assert module.double(4) == 8
    assert module.MAIN_ROW == notebooks.main_row("01_first") == "ours"
    assert notebooks.main_row("03_third") == ""
    assert capsys.readouterr().out == "" and not hasattr(module, "seed")
    assert module.double.__module__ == "colorlib_notebook_01_first"
    assert "return 2 * x" in inspect.getsource(module.double)
    assert notebooks.load("studies/03").PLACE == "colorlib_notebook_studies_03_third"
    tiny.write(project, "01_first", "# other prose", DEFINE, "print(2)")
    assert notebooks.load("01_first") is module and notebooks.define_hash("01") == digest
    tiny.write(project, "01_first", DEFINE.replace("2 * x", "3 * x"))
    assert notebooks.load("01_first").double(4) == 12 and notebooks.define_hash("01") != digest


def test_what_is_wrong_is_said_with_its_notebook(project):
    tiny.write(project, "01_first", "# Title", "%%define\ndef divide(x):\n    return 1 / x")
    with pytest.raises(ZeroDivisionError) as caught:
        notebooks.load("01_first").divide(0)
    shown = "".join(traceback.format_exception(caught.value))
    assert "01_first.ipynb, cell 2" in shown and "return 1 / x" in shown
    file = tiny.write(project, "03_third", "%%define\nx = = 1")
    with pytest.raises(SyntaxError, match=r"03_third.ipynb, cell 1, line 1"):
        notebooks.load("03_third")
    file.write_text("{")
    with pytest.raises(NotebookError, match=r"03_third.ipynb: not a readable notebook"):
        notebooks.load("03_third")


def test_headings_and_parameters_are_read_without_running(project):
    cells = tiny.notebook("x = 1", "# One #\ntext\n## Two", "y = 2", "# Three")["cells"]
    assert notebooks.headings(cells) == ["", "Two", "Two", "Three"]
    found = notebooks.parameters("01_first")
    assert list(found) == ["profile", "seed", "rate", "mark", "sizes", "parts"]
    assert found["rate"] == notebooks.Parameter("float", 1e-4)
    assert (found["mark"].default, found["sizes"].default) == ("#fff", [1, 2])


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), rate=st.floats(1e-6, 1), sizes=st.lists(st.integers(-9, 9)))
def test_good_values_come_back_as_they_are(project, seed, rate, sizes):
    values = {"seed": seed, "rate": rate, "sizes": sizes}
    assert notebooks.check_values("01_first", values) == values
    assert type(notebooks.check_values("01_first", {"rate": 1})["rate"]) is float


def test_limits_hold_for_their_notebook_and_the_common_ones_for_all(project):
    values = {"rate": 5.0, "parts": ["x"]}
    assert notebooks.check_values("03", values) == values
    with pytest.raises(ParameterError, match="studies/03_third: seed = -1"):
        notebooks.check_values("studies/03", {"seed": -1})


def test_a_profile_is_read_and_checked_like_everything_else(project):
    params = project / "notebooks" / "params"
    files.write_atomic(params / "smoke/01_first.yml", "profile: smoke\nrate: 1\nparts: [skips]")
    files.write_atomic(params / "studies/smoke/03_third.yml", "seed: 4")
    expected = {"profile": "smoke", "rate": 1.0, "parts": ["skips"]}
    assert notebooks.profile_parameters("01", "smoke") == expected
    assert notebooks.profile_parameters("studies/03", "smoke") == {"seed": 4}
    assert notebooks.profile_parameters("03", "smoke") == {}  # the notebook's own values


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("float", "1e-4", 1e-4),
        ("bool", "False", False),
        ("list[int]", "[1, 2]", [1, 2]),
        ("list[int]", "1,2", [1, 2]),
        ("list[str]", "", []),
        ("str", "7", "7"),
        ("int", "seven", "seven"),  # left for check_values to refuse
    ],
)
def test_from_text_reads_what_a_shell_gives(kind, text, value):
    assert notebooks.from_text(notebooks.Parameter(kind, None), text) == value


def scope(future="", **values):
    """Run a parameters cell the way a kernel does and return its globals."""
    space = {}
    exec(f"{future}\n{CELL}\ndevice: str = 'auto'", space)
    return {**space, **values}


@pytest.mark.parametrize("future", ["", "from __future__ import annotations"])
@pytest.mark.parametrize("name", ["01_first", "studies/03_third"])
def test_validate_returns_the_parameters(project, name, future):
    space = scope(future, rate=1, model=object(), device="cuda:1")
    space["__annotations__"]["model"] = "nn.Module"
    found = notebooks.validate(space, name)
    assert (found.rate, found.seed, found.device) == (1.0, 0, "cuda:1")
    assert isinstance(found.rate, float) and not hasattr(found, "model")


def test_report_dir(project, monkeypatch, tmp_path_factory):
    made = notebooks.report_dir("studies/03_third", "")
    assert made == (project / "reports/local/studies/03_third").resolve() and made.is_dir()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert notebooks.report_dir("01_first", "mine").parent.name.startswith("elsewhere")
    (project / "a_file").write_text("")
    with pytest.raises(ParameterError, match="give another one"):
        notebooks.report_dir("01_first", str(project / "a_file" / "below"))
