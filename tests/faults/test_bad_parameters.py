"""Parameters that cannot be: refused in words, for each notebook as it stands, before any work."""

from __future__ import annotations

import subprocess
import sys

import pytest
import tiny
import yaml
from papermill.exceptions import PapermillExecutionError
from test_cli import call
from test_notebooks import scope
from test_plan import refusal
from test_run_notebooks import execute

from colorlib import files, notebooks
from colorlib.batch import run as runner
from colorlib.batch.plan import plan
from colorlib.notebooks import NotebookError, ParameterError


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rate = 1.0", "line 2 has no type"),
        ("import os", "line 2 has no type"),
        ("rate: float | None = 1.0", "not one of int, float"),
        ("rate: float = 2 * 3", "malformed"),
        ("rate: float", "malformed"),
        ("rate: int = 1.5", "must be int"),
        ("rate: int = = 1", "invalid syntax"),
    ],
)
def test_a_parameters_cell_holds_plain_lines_only(limited, line, words):
    tiny.write(limited, "03_third", f"%%parameters\nseed: int = 0\n{line}")
    with pytest.raises(NotebookError, match=f"03_third.ipynb, parameters cell.*{words}.*write `"):
        notebooks.parameters("03_third")


PROBLEMS = [  # parameter, value, what is said of it
    ("sed", 1, "unknown parameter 'sed'; did you mean 'seed'?"),
    ("zzz", 1, "unknown parameter 'zzz'; known: profile, seed, rate"),
    ("seed", True, "seed = True: must be int, is bool"),
    ("seed", -1, "must be at least 0"),
    ("seed", 2**32, "must be at most 4294967295"),
    ("rate", "1e-4", "must be float, is str (YAML reads 1e-4 as text: write 1.0e-4)"),
    ("rate", 0, "must be at least 1e-06"),
    ("rate", float("nan"), "must be a finite number"),
    ("rate", float("inf"), "must be a finite number"),
    ("rate", 10**400, "too large"),
    ("mark", False, "bool: quote it"),
    ("sizes", [3, 10], "sizes = 10: must be at most 9"),
    ("sizes", [1, "2"], "must be int, is str"),
    ("parts", "skips", "parts = 'skips': must be a list, list[str]; write [skips]"),
    ("parts", ["losses", "skip"], "parts = 'skip': must be one of losses, skips; did you mean"),
    ("profile", "smok", "must be one of smoke, laptop; did you mean 'smoke'?"),
    (7, 1, "unknown parameter '7'"),
]


@pytest.mark.parametrize(("name", "value", "words"), PROBLEMS)
def test_every_problem_has_a_line_of_its_own(limited, name, value, words):
    with pytest.raises(ParameterError) as caught:
        notebooks.check_values("01", {"other": 1, name: value})
    other, line = str(caught.value).splitlines()
    assert other.startswith("01_first: other = 1: unknown parameter 'other'")
    assert line.startswith("01_first: ") and words in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rate: 2", "rate = 2.0: must be at most 1"),
        ("sed: 2", "did you mean 'seed'"),
        ("just words", "must hold `name: value` lines"),
        ("- 7", "must hold `name: value` lines"),
        ("a: [1", "expected"),
    ],
)
def test_a_bad_profile_is_one_line_that_names_its_file(limited, text, words):
    file = limited / "notebooks/params/smoke/01_first.yml"
    files.write_atomic(file, text)
    with pytest.raises(ParameterError, match=words) as caught:
        notebooks.profile_parameters("01", "smoke")
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)


def test_validate_refuses_what_the_runner_would(limited):
    with pytest.raises(ParameterError) as caught:
        notebooks.validate(scope(device="gpu", rate=2.0, parts=["skip"]), "01_first")
    found = [line.split(" = ")[0] for line in str(caught.value).splitlines()]
    assert found == [f"01_first: {name}" for name in ("rate", "parts", "device")]


def test_all_that_is_wrong_is_said_at_once(planned):
    (planned / "notebooks/params").mkdir()
    (planned / "notebooks/params/limits.yml").write_text("01_good:\n  rate: [0, 1]\n")
    tiny.write(
        planned, "02_other", "# Other", f"%%parameters\n{tiny.PARAMETERS}".replace("rate", "ratio")
    )
    lines = refusal([], "smoke", {"rate": "-1", "sede": 3, "data": "no/where"})
    for words in (
        "rate = -1.0: must be at least 0",
        "unknown parameter 'sede'; did you mean 'seed'?",
    ):
        assert any(line.startswith("01_good: ") and words in line for line in lines)
    assert any("unknown parameter 'rate'; did you mean 'ratio'?" in line for line in lines)
    assert "rate = 'fast': must be float" in refusal(["01"], "smoke", {"rate": "fast"})[0]
    assert "not with -p" in refusal(["01"], "smoke", {"profile": "paper"})[0]
    assert refusal(["01", "02"], parameters={"report_dir": "x"}) == [
        "one report_dir cannot hold several notebooks"
    ]


@pytest.mark.parametrize("text", ["no/where", "flowers/none", "~/no such folder/*.jpg"])
def test_a_path_that_leads_nowhere_is_refused(planned, text):
    (planned / "data/flowers").mkdir(parents=True)
    (planned / "data/flowers/rose.jpg").write_bytes(b"")
    given = {"data": f"flowers,{text}"}
    assert refusal(["01"], parameters=given) == [
        f"01_good: data = {text!r}: there is no such file or folder"
    ]
    for there in ("flowers/rose", "flowers/rose.jpg", "flowers/*.jpg", "data/flowers", "name"):
        assert plan(["01"], parameters={"data": there})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (("image_sise", "64"), "did you mean 'image_size'"),
        (("image_size", "big"), "must be int"),
        (("image_size", "0"), "must be at least"),
        (("precision", "fp23"), "did you mean 'fp32'"),
    ],
)
def test_the_runner_refuses_what_cannot_be_before_anything_runs(given, complaint):
    command = [sys.executable, "-m", "colorlib", "run", "03", "--profile", "smoke", "-p", *given]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and complaint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_notebook_itself_refuses_an_impossible_value(tmp_path):
    with pytest.raises(PapermillExecutionError, match="did you mean 'fp32'"):
        execute("00_primer", tmp_path, {"precision": "fp23"})


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["run", "09"], "unknown notebook '09'; known: 01_good, 02_other, studies/01_good"),
        (["run", "01", "-p", "sed", "1"], "unknown parameter 'sed'; did you mean 'seed'?"),
        (["run", "01", "-p", "seed", "x"], "01_good: seed = 'x': must be int, is str"),
        (["run", "01", "-p", "seed", "-1"], "01_good: seed = -1: must be at least 0"),
        (["run", "--studies", "02"], "unknown notebook 'studies/02'; known: "),
        (["compare", "03"], "unknown notebook '03'; known: 01_good, 02_other, studies/01_good"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(commanded, words, line):
    result = call(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith("colorlib: ") and line in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (commanded / "reports").exists()


NAN, HUGE = float("nan"), 10**400
WRONG = {  # of each type, as YAML or a cell may give it; text is what YAML makes of 1e-4
    "int": ["1e3", "ten", 1.5, True, NAN, [1], None],
    "float": ["1e-4", "fast", True, NAN, float("inf"), -float("inf"), HUGE, -HUGE, [0.1], None],
    "str": [False, 7, 1.5, NAN, ["a"], {"a": 1}, None],
    "bool": ["no", "yes", 1, 0.0, NAN, [True], None],
}


def wrong_values(kind: str, limit: list | dict | None) -> list:
    """Return what a parameter must refuse: other types, and what lies outside its limits."""
    scalar = kind.removeprefix("list[").removesuffix("]")
    wrong = list(WRONG[scalar])
    if isinstance(limit, list):
        low, high = limit
        wrong += [low - 1, -(10**30)] if low is not None else []
        wrong += [high + 1, 10**30] if high is not None else []
    elif limit:
        wrong += ["no such choice", "", "a" * 300]
    if kind == scalar:
        return wrong
    return [[value] for value in wrong if not isinstance(value, list)] + ["text", 1, NAN, None]


@pytest.mark.parametrize("name", notebooks.names("all"))
def test_each_parameter_of_each_notebook_refuses_what_cannot_be(name, tally):
    kinds = {key: known.type for key, known in notebooks.parameters(name).items()}
    every = yaml.safe_load((files.root() / "notebooks/params/limits.yml").read_text())
    limits = every["common"] | every.get(name, {})
    numbers = {key for key, kind in kinds.items() if "int" in kind or "float" in kind}
    assert numbers <= limits.keys(), "a number without limits: write them into limits.yml"
    wrong = {key: wrong_values(kind, limits.get(key)) for key, kind in kinds.items()}
    for turn in range(max(map(len, wrong.values()))):
        given = {key: values[turn] for key, values in wrong.items() if turn < len(values)}
        with pytest.raises(ParameterError) as caught:
            notebooks.check_values(name, given)
        lines = str(caught.value).splitlines()
        said = {line.removeprefix(f"{name}: ").split(" = ")[0]: line for line in lines}
        assert said.keys() == given.keys() and len(lines) == len(given), given.keys() - said.keys()
        assert all("must be" in line or "large" in line for line in lines)
        tally["refused"] += len(given)


@pytest.mark.parametrize("name", notebooks.names("all"))
def test_the_runner_refuses_before_it_touches_anything(name, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "make_report", lambda *_: pytest.fail("it began"))
    for key, known in notebooks.parameters(name).items():
        value = {"str": 7, "list[str]": 7, "bool": "no"}.get(known.type, "nan")
        if key not in ("profile", "report_dir"):
            given = {key: value, "report_dir": str(tmp_path / "report")}
            with pytest.raises(ParameterError, match=f"{name}: {key} = "):
                runner.run([name], "smoke", given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("rate: 1e-4", "YAML reads 1e-4 as text: write 1.0e-4"),
        ("rate: .nan", "must be a finite number"),
        ("rate: .inf", "must be a finite number"),
        ("mark: no", "quote it"),
        ("mark: 2025-01-01", "must be str, is date"),
        ("mark: ~", "must be str, is NoneType"),
        ("seed: 1_000", 1000),
        ("seed: 1e3", "must be int, is str"),
        ("seed: 010", "010"),
        ("seed: 1:30", "1:30"),
        ("sizes: [1, 010]", "010"),
        ("parts: [no]", "must be str, is bool"),
        ("seed: 1\nmark: a\nseed: 2", "seed stands there twice"),
    ],
)
def test_what_yaml_reads_otherwise_than_it_looks(limited, line, found):
    files.write_atomic(limited / "notebooks/params/smoke/01_first.yml", line)
    if isinstance(found, int):
        assert notebooks.profile_parameters("01", "smoke") == {"seed": found}
        return
    with pytest.raises(ParameterError) as caught:
        notebooks.profile_parameters("01", "smoke")
    assert found in str(caught.value) and "\n" not in str(caught.value)
