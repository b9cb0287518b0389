"""The notebook contract: what a reader, the runner and other notebooks may rely on."""

from __future__ import annotations

import ast
import json
import re

import pytest

from colorlib import notebooks

HEADINGS = [
    "In short",
    "Parameters",
    "Setup",
    "Data",
    "Model",
    "Objective",
    "Training",
    "Results",
    "Ablations",
    "Open questions",
    "Takeaways",
    "Exercises",
    "References",
]
COMMON = {
    "profile": "str",
    "seed": "int",
    "device": "str",
    "precision": "str",
    "data": "str",
    "image_size": "int",
    "report_dir": "str",
    "resume": "bool",
    "studies": "list[str]",
    "show": "list[str]",
}
PROVIDED = {
    "01_patchwise_cnn": ["VectorizedConv2d", "PatchwiseNet"],
    "02_one_to_one_dcgan": ["Generator", "Discriminator", "merge_pieces"],
    "03_cgan_flowers": ["UNet", "resnet_unet", "PatchDiscriminator"],
    "04_two_unpaired_images": ["Generator", "Critic", "palette"],
    "05_colorgan": ["ColorGAN", "Critic"],
}
ALL = notebooks.names()
PAPERS = [name for name in ALL if name in PROVIDED]
TAUGHT = ["00_primer", *PAPERS, "06_side_by_side"]  # what a course goes through


def cells(name: str) -> list[dict]:
    return notebooks.cells(notebooks.path(name))


def code(name: str, tag: str = "") -> list[str]:
    return [
        c["source"]
        for c in cells(name)
        if c["cell_type"] == "code" and (not tag or tag in c["tags"])
    ]


def test_there_is_a_notebook_to_hold_to_the_contract():
    assert PAPERS


@pytest.mark.parametrize("name", PAPERS)
def test_headings_stand_in_the_fixed_order(name):
    text = "\n".join(c["source"] for c in cells(name) if c["cell_type"] == "markdown")
    assert re.findall(r"^## (.+)$", text, re.M) == HEADINGS
    assert len(re.findall(r"^# (.+)$", text, re.M)) == 1


@pytest.mark.parametrize("name", ALL)
def test_parameters_are_typed_literals_with_help(name):
    found = notebooks.parameters(name)
    assert [p.name for p in found.values() if not p.help] == []
    if name in PROVIDED:
        assert {key: found[key].type for key in COMMON} == COMMON
        assert found["profile"].default == "laptop" and found["report_dir"].default == ""


@pytest.mark.parametrize("name", PAPERS)
def test_parameters_are_validated_right_after_they_are_set(name):
    sources = code(name)
    place = next(
        i
        for i, c in enumerate(c for c in cells(name) if c["cell_type"] == "code")
        if "parameters" in c["tags"]
    )
    following = sources[place + 1 : place + 3]  # definitions of limits may stand between
    assert any("notebooks.validate(globals()" in source for source in following)


@pytest.mark.parametrize("name", PAPERS)
def test_define_cells_only_define(name):
    for source in code(name, "define"):
        for node in ast.parse(source).body:
            defines = isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))
            constant = isinstance(node, ast.Assign) and all(
                isinstance(t, ast.Name) and t.id.isupper() for t in node.targets
            )
            assert defines or constant, ast.unparse(node)[:80]


@pytest.mark.parametrize("name", PAPERS)
def test_definitions_load_alone_and_provide_what_others_rely_on(name):
    module = notebooks.load(name)
    for wanted in [*PROVIDED[name], "colorize", "load_model", "MAIN_ROW"]:
        assert hasattr(module, wanted), wanted


@pytest.mark.parametrize("name", ALL)
def test_sources_hold_no_output(name):
    content = json.loads(notebooks.path(name).read_text())
    held = [c for c in content["cells"] if c.get("outputs") or c.get("execution_count")]
    assert held == []
    ids = [c["id"] for c in content["cells"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", PAPERS)
def test_the_last_code_cell_records(name):
    assert "record.write(" in code(name)[-1]


@pytest.mark.parametrize("name", ALL)
def test_profiles_only_set_known_parameters(name):
    import yaml

    from colorlib import files

    for file in (files.root() / "notebooks" / "params").glob(f"*/{name}.yml"):
        values = yaml.safe_load(file.read_text())
        assert notebooks.check_types(name, values)["profile"] == file.parent.name


@pytest.mark.parametrize("name", TAUGHT)
def test_solutions_of_the_exercises_run(name):
    text = "\n".join(
        c["source"]
        for c in cells(name)
        if c["cell_type"] == "markdown" and "## Exercises" in c["source"]
    )
    solutions = re.findall(r"<details>.*?</details>", text, re.S)
    assert 3 <= len(solutions) <= 5
    for solution in solutions:
        (source,) = re.findall(r"```python\n(.*?)```", solution, re.S)
        scope = dict(vars(notebooks.load(name)))
        indent = re.match(r" *", source)[0]
        exec(compile(re.sub(f"^{indent}", "", source, flags=re.M), "solution", "exec"), scope)
