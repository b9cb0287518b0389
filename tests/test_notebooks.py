"""Notebooks as plain data: names, parameters, definitions, validation."""

from __future__ import annotations

import inspect
import math
import traceback

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from colorlib import notebooks
from colorlib.notebooks import NotebookError, ParameterError

DEFINE = '''%%define
from __future__ import annotations

MAIN_ROW: str = "ours"


def double(x: Tensor) -> Tensor:
    """Return twice x."""
    return 2 * x
'''


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    tiny.write(
        tmp_path, "01_first", "# First", f"%%parameters\n{tiny.PARAMETERS}", DEFINE, "print(1)"
    )
    tiny.write(tmp_path, "03_third", "# Third", f"%%parameters\n{tiny.PARAMETERS}")
    return tmp_path


def test_names_and_paths(project):
    tiny.write(project, "notes", "# no number, no notebook of ours")
    assert notebooks.names() == ["01_first", "03_third"]
    assert notebooks.path("03") == project / "notebooks" / "03_third.ipynb"
    assert notebooks.path("notebooks/01_first.ipynb") == notebooks.path("01_first")
    with pytest.raises(NotebookError, match="unknown notebook '04'; known: 01_first, 03_third"):
        notebooks.path("04")
    with pytest.raises(NotebookError, match="unknown notebook '0'"):  # it could be either
        notebooks.path("0")


def test_load_executes_definitions_only(project, capsys):
    module = notebooks.load("01_first")
    assert module.double(4) == 8
    assert module.MAIN_ROW == notebooks.main_row("01_first") == "ours"
    assert notebooks.main_row("03_third") == ""
    assert capsys.readouterr().out == ""
    assert not hasattr(module, "seed")
    assert module.double.__module__ == "colorlib_notebook_01_first"
    assert "return 2 * x" in inspect.getsource(module.double)


def test_load_is_cached_by_content(project):
    first = notebooks.load("01_first")
    assert notebooks.load("01_first") is first
    tiny.write(project, "01_first", DEFINE.replace("2 * x", "3 * x"))
    assert notebooks.load("01_first").double(4) == 12
    tiny.write(project, "01_first", DEFINE.replace("2 * x", "3 * x"), "# prose does not matter")
    assert notebooks.load("01_first").double(4) == 12


def test_load_points_to_the_notebook(project):
    tiny.write(project, "01_first", "# Title", "%%define\ndef divide(x):\n    return 1 / x")
    with pytest.raises(ZeroDivisionError) as caught:
        notebooks.load("01_first").divide(0)
    shown = "".join(traceback.format_exception(caught.value))
    assert "01_first.ipynb, cell 2" in shown
    assert "return 1 / x" in shown


def test_load_refuses_what_is_no_definition_cell(project):
    with pytest.raises(NotebookError, match="no cell is tagged 'define'"):
        notebooks.load("03_third")
    tiny.write(project, "03_third", "%%define\nx = = 1")
    with pytest.raises(NotebookError, match=r"03_third.ipynb, cell 1, line 1"):
        notebooks.load("03_third")
    (project / "notebooks" / "03_third.ipynb").write_text("{")
    with pytest.raises(NotebookError, match="not a readable notebook"):
        notebooks.load("03_third")


def test_parameters_are_read_without_running(project):
    found = notebooks.parameters("01_first")
    assert list(found) == ["profile", "seed", "rate", "data", "studies", "report_dir"]
    assert found["rate"] == notebooks.Parameter("rate", "float", 1e-4, "of learning")
    assert found["studies"].default == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rate = 1.0", "not of the form"),
        ("rate: float = 2 * 3", "not a plain literal"),
        ("rate: float | None = 1.0", "not one of"),
        ("rate: int = 1.5", "must be int"),
        ("rate: float", "not a plain literal"),
        ("import os", "not of the form"),
    ],
)
def test_a_parameters_cell_holds_plain_lines_only(line, words):
    with pytest.raises(ValueError, match=words):
        notebooks.parse_parameters(line)


def test_comments_and_strings_are_told_apart():
    found = notebooks.parse_parameters('colour: str = "#fff"  # a # in a string\nok: bool = True')
    assert (found["colour"].default, found["colour"].help) == ("#fff", "a # in a string")
    assert (found["ok"].default, found["ok"].help) == (True, "")


def test_check_types_names_every_problem(project):
    values = {"sed": 1, "seed": True, "rate": "1e-4", "data": False, "studies": "a"}
    with pytest.raises(ParameterError) as caught:
        notebooks.check_types("01_first", values)
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    assert "unknown parameter 'sed'; did you mean 'seed'?" in lines[0]
    assert "seed = True: must be int, is bool" in lines[1]
    assert "YAML reads 1e-4 as text: write 1.0e-4" in lines[2]
    assert "quote it" in lines[3]
    assert "studies = 'a': must be a list, list[str]; write [a]" in lines[4]
    assert notebooks.check_types("01_first", {"rate": 1}) == {"rate": 1.0}


@given(st.floats(1e-300, 1e300))
@settings(deadline=None, max_examples=50)
def test_the_advice_about_exponents_is_right(number):
    import yaml

    hint = notebooks.type_problem("rate", "float", f"{number:e}")
    advised = yaml.safe_load(hint.split("write ")[1].rstrip(")"))
    assert isinstance(advised, float)
    assert math.isclose(advised, float(f"{number:e}"), rel_tol=1e-6)


@given(st.lists(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))))
@settings(deadline=None, max_examples=50)
def test_whole_numbers_pass_as_floats(values):
    assert notebooks.type_problem("rates", "list[float]", values) == ""
    assert all(type(v) is float for v in notebooks.convert("list[float]", values))


def test_from_text_reads_what_a_shell_gives():
    def read(kind, text):
        return notebooks.from_text(notebooks.Parameter("p", kind, None, ""), text)

    assert read("float", "1e-4") == 1e-4
    assert read("bool", "False") is False
    assert read("list[int]", "[1, 2]") == read("list[int]", "1,2") == [1, 2]
    assert read("list[str]", "") == []
    assert read("str", "7") == "7"
    assert read("int", "seven") == "seven"  # left for check_types to refuse


def scope(**values):
    """Run a parameters cell the way a kernel does and return its globals."""
    space = {}
    exec(f"{tiny.PARAMETERS}\ndevice: str = 'auto'\nimage_size: int = 64", space)
    return {**space, **values}


def test_validate_returns_the_parameters():
    space = scope(rate=1, model=object())
    space["__annotations__"]["model"] = "nn.Module"
    found = notebooks.validate(space, {"rate": (0, None), "studies": {"a", "b"}})
    assert (found.rate, found.seed, found.device) == (1.0, 0, "auto")
    assert isinstance(found.rate, float)
    assert not hasattr(found, "model")


def test_validate_lists_every_problem_in_a_line_each():
    space = scope(
        profile="desktop", seed=-1, rate="x", studies=["a", "c"], device="gpu", image_size=2
    )
    with pytest.raises(ParameterError) as caught:
        notebooks.validate(space, {"studies": ["a", "b"], "steps": (1, 9), "rate": (0.0, 1.0)})
    text = str(caught.value)
    assert len(text.splitlines()) == 7
    for words in (
        "steps: has limits but is no parameter",
        "profile = 'desktop': must be one of smoke, laptop, evening, paper",
        "seed = -1: must be between 0 and 4294967295",
        "rate = 'x': must be float",
        "studies[1] = 'c': must be one of a, b",
        "device = 'gpu': must be auto, cpu, cuda, cuda:0 or mps",
        "image_size = 2: must be between 8 and 2048",
    ):
        assert words in text


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_validate_refuses_numbers_that_are_none(bad):
    with pytest.raises(ParameterError, match="must be a finite number"):
        notebooks.validate(scope(rate=bad), {})


def test_open_ranges_say_which_side():
    with pytest.raises(ParameterError, match="must be at least 1"):
        notebooks.validate(scope(seed=0), {"seed": (1, None)})
    with pytest.raises(ParameterError, match="must be at most 5"):
        notebooks.validate(scope(seed=6), {"seed": (None, 5)})


def test_report_dir(project, monkeypatch, tmp_path_factory):
    made = notebooks.report_dir("01_first", "")
    assert made == (project / "reports" / "local" / "01_first").resolve()
    assert made.is_dir()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert notebooks.report_dir("01_first", "mine").parent.name.startswith("elsewhere")
    (project / "a_file").write_text("")
    with pytest.raises(ParameterError, match="give another one"):
        notebooks.report_dir("01_first", str(project / "a_file" / "below"))
