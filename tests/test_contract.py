"""The notebook contract: what a reader, the runner and other notebooks may rely on."""

from __future__ import annotations

import ast
import json
import re
import statistics
import textwrap
from numbers import Real
from pathlib import Path

import pytest
import yaml

from colorlib import files, notebooks

BEGIN = ["In short", "Parameters", "Setup", "Data", "Model", "Objective", "Training", "Results"]
LESSON = [*BEGIN, "What the paper claims", "Exercises", "References"]
COMMON = {
    **{"profile": "str", "seed": "int", "device": "str", "precision": "str"},
    **{"report_dir": "str", "resume": "bool"},
}
PROVIDED = {
    "01_patchwise_cnn": ["VectorizedConv2d", "PatchwiseNet"],
    "02_one_to_one_dcgan": ["Generator", "Discriminator", "merge_pieces"],
    "03_cgan_flowers": ["UNet", "resnet_unet", "PatchDiscriminator"],
    "04_two_unpaired_images": ["Generator", "Critic", "palette"],
    "05_colorgan": ["ColorGAN", "Critic"],
}
DEFINES = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
PARAMS = files.root() / "notebooks" / "params"
LIMITS = yaml.safe_load((PARAMS / "limits.yml").read_text(encoding="utf-8"))
ALL = notebooks.names("all")
PAPERS = list(PROVIDED)
TAUGHT = [name for name in ALL if name[:2] in ("00", "06", "07") or name in PAPERS]


def cells(name: str, kind: str = "code", tag: str = "") -> list[str]:
    found = [c for c in notebooks.cells(notebooks.path(name)) if c["cell_type"] == kind]
    return [c["source"] for c in found if not tag or tag in c["tags"]]


def headings(name: str, level: str = "##") -> list[str]:
    return re.findall(rf"^{level} (.+)$", "\n".join(cells(name, "markdown")), re.M)


@pytest.mark.parametrize("name", PAPERS)
def test_headings_stand_in_the_fixed_order(name):
    assert headings(name) == LESSON
    assert len(headings(name, "#")) == 1


@pytest.mark.parametrize("name", PAPERS)
def test_a_lesson_can_be_read_in_an_hour(name):
    code = [len(re.findall(r"^.*\S", source, re.M)) for source in cells(name)]
    words = sum(len(source.split()) for source in cells(name, "markdown"))
    assert len(code) + len(cells(name, "markdown")) <= 110 and sum(code) <= 650
    assert statistics.quantiles(code, n=10)[-1] <= 18 and max(code) <= 30
    assert 2000 <= words <= 4000 and len(notebooks.parameters(name)) <= 20


@pytest.mark.parametrize("name", ALL)
def test_parameters_are_typed_literals_with_help(name):
    (source,) = cells(name, tag="parameters")
    found = notebooks.parameters(name)
    ends = {node.end_lineno for node in ast.parse(source).body}
    written = source.splitlines()
    assert [written[end - 1] for end in ends if not re.search(r"  # \S", written[end - 1])] == []
    assert {key: found[key].type for key in COMMON} == COMMON
    assert found["profile"].default == "laptop" and found["report_dir"].default == ""
    notebooks.check_values(name, {key: known.default for key, known in found.items()})


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_ranges_or_choices_of_parameters_that_there_are(name):
    for key, limit in LIMITS[name].items():
        if isinstance(limit, dict):
            assert list(limit) == ["choices"] and isinstance(limit["choices"], list), key
        else:
            low, high = limit
            assert all(end is None or isinstance(end, Real) for end in limit), key
            assert None in limit or low < high, key
    if name == "common":
        assert LIMITS[name]["profile"]["choices"] == list(notebooks.PROFILES)
    else:
        assert set(LIMITS[name]) <= set(notebooks.parameters(name))


@pytest.mark.parametrize("name", ALL)
def test_parameters_are_validated_first_and_results_recorded_last(name):
    (given,) = cells(name, tag="parameters")
    place = cells(name).index(given)
    following = "\n".join(cells(name)[place + 1 : place + 3])
    assert "P = notebooks.validate(globals(), NAME)" in following
    assert f'NAME = "{name}"' in following
    assert "record.write(" in cells(name)[-1]


PROFILES = [profile for profile in notebooks.PROFILES if profile != "laptop"]  # that is its own


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_set_what_the_notebook_knows(name, profile):
    values = notebooks.profile_parameters(name, profile)
    assert values and values.get("profile") == profile


def test_every_file_of_parameters_belongs_to_a_notebook():
    own = {PARAMS / Path(n).parent / p / f"{Path(n).name}.yml" for n in ALL for p in PROFILES}
    assert set(PARAMS.rglob("*.yml")) == own | {PARAMS / "limits.yml"}


@pytest.mark.parametrize("name", PAPERS)
def test_define_cells_only_define_and_provide_what_others_rely_on(name):
    for source in cells(name, tag="define"):
        for node in ast.parse(source).body:
            if isinstance(node, ast.Assign):  # of constants only
                assert all(t.id.isupper() for t in node.targets), ast.unparse(node)
            else:
                assert isinstance(node, DEFINES), ast.unparse(node)
    wanted = [*PROVIDED[name], "colorize", "load_model", "MAIN_ROW"]
    module = notebooks.load(name)
    assert [one for one in wanted if not hasattr(module, one)] == []


@pytest.mark.parametrize("name", ALL)
def test_sources_hold_no_output(name):
    found = json.loads(notebooks.path(name).read_text(encoding="utf-8"))["cells"]
    assert [c for c in found if c.get("outputs") or c.get("execution_count")] == []
    assert len({c["id"] for c in found}) == len(found)


@pytest.mark.parametrize("name", TAUGHT)
def test_solutions_of_the_exercises_run(name):
    text = "\n".join(c for c in cells(name, "markdown") if "## Exercises" in c)
    solutions = re.findall(r"<details>.*?</details>", text, re.S)
    assert 3 <= len(solutions) <= 5
    for solution in solutions:
        (source,) = re.findall(r"```python\n(.*?)```", solution, re.S)
        code = compile(textwrap.dedent(source), "solution", "exec")
        exec(code, dict(vars(notebooks.load(name))))
