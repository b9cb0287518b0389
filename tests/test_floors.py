"""The house: a module stands on lower floors only, without a circle; two rooms; a bound on size."""

from __future__ import annotations

import ast
import graphlib
import re
from pathlib import Path

import pytest

import colorlib
from colorlib import notebooks

PACKAGE = Path(colorlib.__file__).parent
FLOORS = """
1 files
2 color pictures machine
3 metrics adversarial classics downloads
4 datasets training figures notebooks
5 record evidence pairs colorize bench
6 export
5 batch.plan batch.stamps batch.speed
6 batch.report batch.run batch.results batch.pages batch.compare batch.cluster
7 batch.cli batch.teaching __main__
"""
FLOOR = {m: int(line[0]) for line in FLOORS.split("\n")[1:-1] for m in line.split()[1:]}
# 4,800, the studies on one bench, the export, photos of any size, many machines and devices
MOST_LINES = 5_495
PAPERS = r"\b0[1-7]_[a-z]|patchwise|one_to_one|dcgan|cgan_|two_unpaired|colorgan"


def imports(package: Path) -> dict[str, set[str]]:
    """Return what each module of a package imports of it, for types and inside functions too."""
    files = {path: path.relative_to(package).with_suffix("") for path in package.rglob("*.py")}
    modules = {".".join(name.parts): path for path, name in files.items()}
    found = {}
    for module, path in modules.items():
        texts = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                texts |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                inside = [package.name, *module.split(".")][: -node.level] if node.level else []
                base = ".".join(filter(None, [*inside, node.module]))
                texts |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
                texts |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
        inner = {text.removeprefix(f"{package.name}.") for text in texts}
        found[module] = inner & modules.keys()
    return {module: names for module, names in found.items() if not module.endswith("__init__")}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of a circle; none where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


GRAPH = imports(PACKAGE)


def test_every_module_has_a_floor():
    assert GRAPH.keys() == FLOOR.keys()


@pytest.mark.parametrize("module", sorted(GRAPH))
def test_modules_import_only_their_floor_or_below(module):
    above = [m for m in GRAPH[module] if FLOOR[m] > FLOOR[module]]
    assert above == []


def test_no_circle():
    assert circle(GRAPH) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("from house import b", "from house import a"),
        ("if TYPE_CHECKING:\n    from house.b import B", "from house import a"),
        ("import house.b", "def later():\n    from house.a import A"),
        ("from . import b", "from .a import A"),
        ('importlib.import_module("house.b")', "from house.room.c import C"),
    ],
)
def test_a_circle_made_on_purpose_is_seen(tmp_path, one, other):
    (tmp_path / "house/room").mkdir(parents=True)
    (tmp_path / "house/a.py").write_text(f"from house.room import c\n{one}\n")
    (tmp_path / "house/b.py").write_text("")
    (tmp_path / "house/room/c.py").write_text("from ..b import B\n")
    assert circle(imports(tmp_path / "house")) == []
    (tmp_path / "house/b.py").write_text(f"{other}\n")
    assert {"b"} < set(circle(imports(tmp_path / "house")))


def test_neither_helpers_nor_notebooks_import_batch():
    helpers = [module for module in GRAPH if "." not in module and module != "__main__"]
    assert [m for m in helpers if any(name.startswith("batch") for name in GRAPH[m])] == []
    for name in notebooks.names("all"):
        code = [
            c["source"] for c in notebooks.cells(notebooks.path(name)) if c["cell_type"] == "code"
        ]
        assert not re.search(
            r"colorlib\.batch|from colorlib import .*\bbatch\b", "\n".join(code)
        ), name


@pytest.mark.parametrize("module", sorted(GRAPH))
def test_no_module_knows_a_paper(module):
    text = (PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    assert re.findall(PAPERS, text) == []


def test_the_package_stays_thin():
    texts = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    assert sum(text.count("\n") for text in texts) <= MOST_LINES
