"""A module imports only what is on its floor or below it, so that none needs what builds on it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import colorlib

PACKAGE = Path(colorlib.__file__).parent
FLOORS = {
    0: ["files"],
    1: ["color", "pictures", "machine", "garden"],
    2: ["downloads", "cache", "metrics", "audit", "datasets", "adversarial", "classics"],
    3: ["training", "figures"],
    4: ["notebooks", "record"],
    5: ["evidence", "pages", "ledger", "pairs", "teaching"],
    6: ["reproduce", "compare", "colorizing", "cli", "__main__"],
}
FLOOR_OF = {module: floor for floor, modules in FLOORS.items() for module in modules}


def imported(path: Path) -> set[str]:
    """Return the modules of colorlib that a file imports when it runs, not for type hints."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found |= {name.split(".")[1] for name in names if name.startswith("colorlib.")}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            top = node.level > (1 if path.parent != PACKAGE else 0) or module == "colorlib"
            if module.startswith("colorlib."):
                found.add(module.split(".")[1])
            elif module == "colorlib" or (top and not module):
                found |= {alias.name for alias in node.names}
            elif top and node.level:
                found.add(module.split(".")[0])
    return found & FLOOR_OF.keys()


def files_of(module: str) -> list[Path]:
    folder = PACKAGE / module
    return sorted(folder.glob("*.py")) if folder.is_dir() else [PACKAGE / f"{module}.py"]


def test_every_module_has_a_floor():
    there = {p.stem for p in PACKAGE.glob("*.py")} | {
        p.parent.name for p in PACKAGE.glob("*/__init__.py")
    }
    assert there - {"__init__"} <= FLOOR_OF.keys()


@pytest.mark.parametrize("module", [m for m in FLOOR_OF if files_of(m)[0].exists()])
def test_modules_import_only_their_floor_or_below(module):
    for path in files_of(module):
        above = [m for m in imported(path) if FLOOR_OF[m] > FLOOR_OF[module]]
        assert above == [], f"{path.name} imports {above}"


def test_no_module_knows_a_paper():
    names = ["03_cgan", "01_patchwise", "02_one_to_one", "04_two_unpaired", "05_colorgan"]
    for path in PACKAGE.rglob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        code = "\n".join(line for line in lines if "python -m" not in line)
        assert not [name for name in names if name in code], path.name
