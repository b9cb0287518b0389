"""The notebooks as plain data: their names, their parameters, their definitions as a module."""

import ast
import codeop
import difflib
import inspect
import json
import linecache
import math
import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

from colorlib import files

PROFILES = ("smoke", "laptop", "overnight", "paper")
PATTERNS = {"lessons": "[0-9][0-9]_*.ipynb", "studies": "studies/[0-9a-z]*.ipynb"}
SCALARS = {"int": int, "float": float, "str": str, "bool": bool}
TYPES = (*SCALARS, "list[str]", "list[int]", "list[float]")
YAML_SURPRISES = {
    ("float", str): " (YAML reads 1e-4 as text: write 1.0e-4)",
    ("str", bool): " (YAML reads an unquoted yes, no, on, off, true or false as a bool: quote it)",
}
ODD_NUMBER = re.compile(r"(?m)^[^#\n]*(?:[:,-] +|\[ *)([-+]?(?:0[\d_]+|\d+(?::\d+)+))\b")
_loaded: dict[Path, tuple[str, ModuleType]] = {}


class NotebookError(Exception):
    """A notebook is missing or does not keep the contract; one line."""


class ParameterError(NotebookError):
    """One or more parameters are unknown, of the wrong type or out of range; one line for each."""


class Parameter(NamedTuple):
    """One line of a notebook's parameters cell."""

    type: str
    default: Any


def names(kind: str = "lessons") -> list[str]:
    """List the notebooks in reading order: lessons, studies ("studies/03_..."), or all."""
    folder, kinds = files.root() / "notebooks", PATTERNS if kind == "all" else [kind]
    found = (file for kind in kinds for file in sorted(folder.glob(PATTERNS[kind])))
    return [file.relative_to(folder).with_suffix("").as_posix() for file in found]


def full_name(name: str) -> str:
    """Return the whole name for a name, a file name or a unique beginning ("03", "studies/03")."""
    kind = "studies" if Path(name).parent.name == "studies" else "lessons"
    wanted = ("studies/" if kind == "studies" else "") + Path(name).name.removesuffix(".ipynb")
    found = [known for known in names(kind) if Path(name).name and known.startswith(wanted)]
    if wanted in found or len(found) == 1:
        return wanted if wanted in found else found[0]
    listed = ", ".join(names("all")) or f"none in {files.root() / 'notebooks'}"
    raise NotebookError(f"unknown notebook '{name}'; known: {listed}")


def path(name: str) -> Path:
    """Return the notebook's file; an unknown name raises NotebookError listing the known ones."""
    return files.root() / "notebooks" / f"{full_name(name)}.ipynb"


def cells(file: Path) -> list[dict[str, Any]]:
    """Read a notebook's cells, each with its source as one string and its tags as a list."""
    try:
        return [
            {**cell, "source": "".join(cell["source"]), "tags": cell["metadata"].get("tags", [])}
            for cell in files.read_json(file, strict=True)["cells"]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotebookError(f"{file}: not a readable notebook ({error!r})") from error


def shown(file: Path) -> list[dict[str, Any]]:
    """Return what an executed notebook says of each figure it shows: its file and alt text."""
    outputs = [output for cell in cells(file) for output in cell.get("outputs", [])]
    found = [about for output in outputs for about in output.get("metadata", {}).values()]
    return [about for about in found if about.get("file")]


def headings(cells: list[dict[str, Any]]) -> list[str]:
    """Return, for each cell, the nearest heading at or above it ("" before the first)."""
    found = [""]
    for cell in cells:
        source = cell["source"] if cell["cell_type"] == "markdown" else ""
        lines = re.findall(r"^#{1,6} +(.+?)\s*#*$", source, re.MULTILINE)
        found.append(lines[-1] if lines else found[-1])
    return found[1:]


def about(name: str) -> dict[str, Any]:
    """Return what a notebook's own metadata says of it: "reads", "learned", "told_by"."""
    return files.read_json(path(name)).get("metadata", {}).get("colorlib", {})


def main_row(name: str) -> str:
    """Return MAIN_ROW, the row of results a notebook is judged by; "" where it names none."""
    code = "\n".join(c["source"] for c in cells(path(name)) if c["cell_type"] == "code")
    match = re.search(r"""^MAIN_ROW\b[^=\n]*=\s*["'](\w+)["']""", code, re.MULTILINE)
    return match[1] if match else ""


def define_hash(name: str) -> str:
    """Return a digest of the cells tagged `define`: all that a notebook adds to `colorlib`."""
    sources = [c["source"] for c in cells(path(name)) if "define" in c["tags"]]
    return files.sha(json.dumps(sources).encode())


def load(name: str) -> ModuleType:
    """Execute only the cells tagged `define` and return them as a module, cached by content."""
    file, content = path(name), define_hash(name)
    if _loaded.get(file, ("",))[0] == content:
        return _loaded[file][1]
    title = f"colorlib_notebook_{full_name(name).replace('/', '_')}"
    module = sys.modules[title] = ModuleType(title, f"The definitions of {file.name}.")
    module.__file__ = str(file)
    compiler = codeop.Compile()  # like Jupyter: a `from __future__` holds for the cells after it
    for number, cell in enumerate(cells(file), 1):
        if "define" in cell["tags"]:
            # by linecache tracebacks and `inspect` show the notebook's own lines
            source, where = cell["source"] + "\n", f"{file}, cell {number}"
            linecache.cache[where] = (len(source), None, source.splitlines(True), where)
            exec(compiler(source, where, "exec"), module.__dict__)
    _loaded[file] = (content, module)
    return module


def parameters(name: str) -> dict[str, Parameter]:
    """Read the notebook's parameters cell: name -> Parameter, in the order of the cell."""
    source = "\n".join(c["source"] for c in cells(path(name)) if "parameters" in c["tags"])
    found = {}
    try:
        for node in ast.parse(source).body:
            kind = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else "no type"
            if kind not in TYPES:
                raise ValueError(f"line {node.lineno} has {kind}, not one of {', '.join(TYPES)}")
            default = _checked(ast.literal_eval(node.value), kind)
            found[ast.unparse(node.target)] = Parameter(kind, default)
    except (SyntaxError, ValueError) as error:
        what = f"parameters cell: {error}; write `name: type = literal  # help`"
        raise NotebookError(f"{path(name)}, {what}") from error
    return found


def from_text(parameter: Parameter, text: str) -> Any:
    """Read a value given on the command line; what cannot be read stays text to be refused."""
    kind = parameter.type
    try:
        if kind == "bool":
            return {"true": True, "false": False}.get(text.lower(), text)
        if kind.startswith("list["):
            parts = [part.strip(" '\"") for part in text.strip().strip("[]").split(",")]
            return [SCALARS[kind[5:-1]](part) for part in parts if part]
        return SCALARS[kind](text)
    except ValueError:
        return text


def profile_parameters(name: str, profile: str) -> dict[str, Any]:
    """Read what a profile changes, `params/[studies/]PROFILE/NAME.yml`; {} where there is none."""
    kind, _, stem = full_name(name).rpartition("/")
    file = files.root() / "notebooks" / "params" / kind / profile / f"{stem}.yml"
    try:
        return check_values(name, _read_yaml(file))
    except ParameterError as error:
        raise ParameterError(str(error).replace(f"{full_name(name)}: ", f"{file}: ")) from None


def validate(scope: dict[str, Any], name: str) -> SimpleNamespace:
    """Check a running notebook's parameters, given its `globals()`; return them as a namespace."""
    hints = {k: h for k, h in scope["__annotations__"].items() if k.islower() and k in scope}
    kinds = {k: inspect.formatannotation(h).strip("'") for k, h in hints.items()}
    values = {k: scope[k] for k, kind in kinds.items() if kind in TYPES}
    return SimpleNamespace(**check_values(name, values, kinds))


def check_values(name: str, values: dict[str, Any], kinds: dict | None = None) -> dict[str, Any]:
    """Check names, types and ranges in one pass; return the values, or raise every problem."""
    kinds = kinds or {key: parameter.type for key, parameter in parameters(name).items()}
    every = _read_yaml(files.root() / "notebooks" / "params" / "limits.yml")
    limits = every.get("common", {}) | every.get(full_name(name), {})
    checked, problems = {}, []
    for key, value in values.items():
        try:
            if key not in kinds:
                hint = _nearest(key, kinds) or f"; known: {', '.join(kinds)}"
                raise ValueError(f"{value!r}: unknown parameter '{key}'{hint}")
            checked[key] = _checked(value, kinds[key], limits.get(key))
        except (ValueError, OverflowError) as error:
            problems.append(f"{full_name(name)}: {key} = {error}")
    if problems:
        raise ParameterError("\n".join(problems))
    return checked


def _checked(value: Any, kind: str, limit: list | dict | None = None) -> Any:
    """Return a value as its type wants it; ValueError says what is wrong with it."""
    if kind.startswith("list["):
        if not isinstance(value, list):
            raise ValueError(f"{value!r}: must be a list, {kind}; write [{value}]")
        return [_checked(member, kind[5:-1], limit) for member in value]
    if kind == "float" and type(value) is int:
        value = float(value)
    if type(value) is not SCALARS[kind]:
        hint = YAML_SURPRISES.get((kind, type(value)), "")
        raise ValueError(f"{value!r}: must be {kind}, is {type(value).__name__}{hint}")
    if kind == "float" and not math.isfinite(value):
        raise ValueError(f"{value!r}: must be a finite number")
    if isinstance(limit, dict):
        choices = [str(choice) for choice in limit["choices"]]
        if not any(fnmatchcase(str(value), choice) for choice in choices):
            words = f"must be one of {', '.join(choices)}{_nearest(value, choices)}"
            raise ValueError(f"{value!r}: {words}")
        return value
    low, high = limit or (None, None)
    if low is not None and value < low:
        raise ValueError(f"{value!r}: must be at least {low}")
    if high is not None and value > high:
        raise ValueError(f"{value!r}: must be at most {high}")
    return value


def _nearest(word: object, known: list[str] | dict[str, Any]) -> str:
    close = difflib.get_close_matches(str(word), known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _read_yaml(file: Path) -> dict[str, Any]:
    """Read `name: value` lines; {} where there is no such file."""
    import yaml

    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        if odd := ODD_NUMBER.search(text):  # 010 is octal, 1:30 of base 60
            raise ValueError(f"YAML reads {odd[1]} as another number")
        if twice := re.search(r"(?ms)^(\w+):.*^\1:", text):  # YAML would take the last
            raise ValueError(f"{twice[1]} stands there twice")
        return dict(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {})
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise ParameterError(f"{file}: must hold `name: value` lines ({why})") from None


def report_dir(name: str, value: str) -> Path:
    """Return the folder a run writes to, made: `reports/local/NAME` for "", else the given path."""
    folder = Path(value).expanduser() if value else files.root() / "reports" / "local" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(f"report_dir {folder}: {error.strerror}; give another one") from error
    return folder.resolve()
