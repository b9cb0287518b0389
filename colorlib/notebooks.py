"""The notebooks as plain data: their names, their parameters, their definitions as a module."""

from __future__ import annotations

import ast
import codeop
import difflib
import io
import json
import linecache
import math
import re
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from colorlib import files

PROFILES = ("smoke", "laptop", "evening", "paper")
TYPES = ("int", "float", "str", "bool", "list[str]", "list[int]", "list[float]")
SCALARS = {"int": int, "float": float, "str": str, "bool": bool}
COMMON_LIMITS: dict[str, object] = {
    "profile": list(PROFILES),
    "precision": {"auto", "fp32", "bf16"},
    "seed": (0, 2**32 - 1),
    "image_size": (8, 2048),
}
DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")

_loaded: dict[Path, tuple[str, ModuleType]] = {}


class NotebookError(Exception):
    """A notebook is missing or does not keep the contract; one line."""


class ParameterError(NotebookError):
    """One or more parameters are unknown, of the wrong type or out of range; one line for each."""


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's parameters cell."""

    name: str
    type: str
    default: Any
    help: str


def names() -> list[str]:
    """List the notebooks of this project, in reading order."""
    return sorted(p.stem for p in (files.root() / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def full_name(name: str) -> str:
    """Return the notebook's whole name for a name, a file name or a unique beginning ("03")."""
    known = names()
    wanted = Path(name).name.removesuffix(".ipynb")
    if wanted in known:
        return wanted
    beginnings = [k for k in known if wanted and k.startswith(wanted)]
    if len(beginnings) == 1:
        return beginnings[0]
    listed = ", ".join(known) or f"none in {files.root() / 'notebooks'}"
    raise NotebookError(f"unknown notebook '{name}'; known: {listed}")


def path(name: str) -> Path:
    """Return the notebook's file; an unknown name raises NotebookError listing the known ones."""
    return files.root() / "notebooks" / f"{full_name(name)}.ipynb"


def cells(file: Path) -> list[dict[str, Any]]:
    """Read a notebook's cells, each with its source as one string and its tags as a list."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return [
            {**cell, "source": "".join(cell["source"]), "tags": cell["metadata"].get("tags", [])}
            for cell in content["cells"]
        ]
    except FileNotFoundError:
        raise NotebookError(f"{file}: there is no such notebook") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotebookError(f"{file}: not a readable notebook ({error!r})") from error


def headings(cells: list[dict[str, Any]]) -> list[str]:
    """Return, for each cell, the nearest heading at or above it ("" before the first)."""
    current, found = "", []
    for cell in cells:
        if cell["cell_type"] == "markdown":
            lines = re.findall(r"^#{1,6} +(.+?)\s*#*$", cell["source"], re.MULTILINE)
            current = lines[-1] if lines else current
        found.append(current)
    return found


def main_row(name: str) -> str:
    """Return MAIN_ROW, the row of results a notebook is judged by; "" where it names none."""
    for cell in cells(path(name)):
        match = re.search(r"""^MAIN_ROW\b[^=\n]*=\s*["'](\w+)["']""", cell["source"], re.MULTILINE)
        if cell["cell_type"] == "code" and match:
            return match[1]
    return ""


def load(name: str) -> ModuleType:
    """Execute only the cells tagged `define` and return them as a module, cached by content."""
    file = path(name)
    sources = [(i, c["source"]) for i, c in enumerate(cells(file)) if "define" in c["tags"]]
    if not sources:
        raise NotebookError(f"{file}: no cell is tagged 'define'")
    content = files.sha(json.dumps(sources).encode())
    cached = _loaded.get(file)
    if cached and cached[0] == content:
        return cached[1]
    module = ModuleType(f"colorlib_notebook_{file.stem}", f"The definitions of {file.name}.")
    module.__file__ = str(file)
    previous = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module
    try:
        _execute(module, file, sources)
    except BaseException:
        if previous is None:
            del sys.modules[module.__name__]
        else:
            sys.modules[module.__name__] = previous
        raise
    _loaded[file] = (content, module)
    return module


def _execute(module: ModuleType, file: Path, sources: list[tuple[int, str]]) -> None:
    """Run the cells in the module; tracebacks and `inspect` show the notebook's own lines."""
    compiler = codeop.Compile()  # like Jupyter: a `from __future__` holds for the cells after it
    for index, source in sources:
        filename = f"{file}, cell {index + 1}"
        # no modification time: linecache then keeps the entry, as for a module in a zip file
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        try:
            code = compiler(source + "\n", filename, "exec")
        except SyntaxError as error:
            raise NotebookError(f"{filename}, line {error.lineno}: {error.msg}") from error
        exec(code, module.__dict__)


def parameters(name: str) -> dict[str, Parameter]:
    """Read the notebook's parameters cell: name -> Parameter, in the order of the cell."""
    file = path(name)
    tagged = [c["source"] for c in cells(file) if "parameters" in c["tags"]]
    if len(tagged) != 1:
        raise NotebookError(f"{file}: {len(tagged)} cells are tagged 'parameters', not one")
    try:
        return parse_parameters(tagged[0])
    except (SyntaxError, ValueError) as error:
        raise NotebookError(f"{file}, parameters cell: {error}") from error


def parse_parameters(source: str) -> dict[str, Parameter]:
    """Parse `name: type = literal  # help` lines; anything else raises ValueError."""
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found: dict[str, Parameter] = {}
    for node in ast.parse(source).body:
        where = f"line {node.lineno}"
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            raise ValueError(f"{where} is not of the form `name: type = literal  # help`")
        name, kind = node.target.id, ast.unparse(node.annotation)
        if kind not in TYPES:
            raise ValueError(f"{where}: {name} is {kind}, not one of {', '.join(TYPES)}")
        try:
            default = ast.literal_eval(node.value)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where}: the value of {name} is not a plain literal") from error
        if problem := type_problem(name, kind, default):
            raise ValueError(f"{where}: {problem}")
        comment = comments.get(node.end_lineno, "")
        found[name] = Parameter(name, kind, convert(kind, default), comment)
    return found


def type_problem(name: str, kind: str, value: object) -> str:
    """Say in one line what keeps `value` from being a `kind`; an empty string when nothing does."""
    if kind.startswith("list["):
        if not isinstance(value, list):
            return f"{name} = {value!r}: must be a list, {kind}; {_list_hint(value)}"
        member = kind[5:-1]
        problems = (type_problem(f"{name}[{i}]", member, v) for i, v in enumerate(value))
        return next((p for p in problems if p), "")
    if kind == "float" and type(value) in (int, float):
        return "" if math.isfinite(value) else f"{name} = {value!r}: must be a finite number"
    if type(value) is SCALARS[kind]:
        return ""
    return f"{name} = {value!r}: must be {kind}, is {type(value).__name__}{_yaml_hint(kind, value)}"


def _list_hint(value: object) -> str:
    return f"write [{value}]" if isinstance(value, (str, int, float)) else "write [one, two]"


def _yaml_hint(kind: str, value: object) -> str:
    """Explain the two ways in which YAML surprises."""
    if kind in ("int", "float") and isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return ""
        mantissa, _, exponent = f"{number:e}".partition("e")
        plain = f"{float(mantissa)}e{int(exponent):+d}"
        return f" (YAML reads {value} as text: write {plain})" if kind == "float" else ""
    if kind == "str" and isinstance(value, bool):
        return " (YAML reads an unquoted yes, no, on, off, true or false as a bool: quote it)"
    return ""


def convert(kind: str, value: Any) -> Any:
    """Turn whole numbers into floats where the type is float; leave the rest alone."""
    if kind == "float":
        return float(value)
    return [float(v) for v in value] if kind == "list[float]" else value


def from_text(parameter: Parameter, text: str) -> Any:
    """Read a value given on the command line; what cannot be read stays text for `check_types`."""
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


def check_types(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Check values against the notebook's parameters; return them converted or raise one error."""
    known = parameters(name)
    problems = []
    for key, value in values.items():
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
            problems.append(f"unknown parameter '{key}'; {hint}")
        elif problem := type_problem(key, known[key].type, value):
            problems.append(problem)
    if problems:
        raise ParameterError("\n".join(f"{full_name(name)}: {p}" for p in problems))
    return {key: convert(known[key].type, value) for key, value in values.items()}


def validate(scope: dict[str, Any], limits: dict[str, object]) -> SimpleNamespace:
    """Check a notebook's parameters (`globals()`) for type and range; return them as a namespace.

    Args:
        scope: the notebook's globals; the types are its annotations.
        limits: name -> (low, high), both included, None for open; or a set or list of the allowed
            values. For a list parameter they hold for each member.
    """
    kinds = {}
    for name, annotation in scope.get("__annotations__", {}).items():
        kind = annotation if isinstance(annotation, str) else _type_name(annotation)
        if name in scope and name.islower() and kind in TYPES:
            kinds[name] = kind
    problems = [f"{name}: has limits but is no parameter" for name in limits if name not in kinds]
    for name, kind in kinds.items():
        problem = type_problem(name, kind, scope[name])
        limit = limits.get(name, COMMON_LIMITS.get(name))
        problem = problem or _limit_problem(name, scope[name], limit)
        if name == "device" and not problem and not DEVICE.fullmatch(scope[name]):
            problem = f"device = {scope[name]!r}: must be auto, cpu, cuda, cuda:0 or mps"
        if problem:
            problems.append(problem)
    if problems:
        raise ParameterError("\n".join(problems))
    return SimpleNamespace(**{name: convert(kind, scope[name]) for name, kind in kinds.items()})


def _type_name(annotation: object) -> str:
    return annotation.__name__ if type(annotation) is type else str(annotation)


def _limit_problem(name: str, value: Any, limit: object) -> str:
    """Say in one line how the value, or a member of it, leaves its limit."""
    if limit is None:
        return ""
    if isinstance(value, list):
        problems = (_limit_problem(f"{name}[{i}]", v, limit) for i, v in enumerate(value))
        return next((p for p in problems if p), "")
    if isinstance(limit, tuple) and len(limit) == 2 and not any(isinstance(e, str) for e in limit):
        low, high = limit
        if (low is None or value >= low) and (high is None or value <= high):
            return ""
        if low is None or high is None:
            return f"{name} = {value!r}: must be {'at most' if low is None else 'at least'} " + str(
                high if low is None else low
            )
        return f"{name} = {value!r}: must be between {low} and {high}"
    allowed = list(limit) if isinstance(limit, (list, tuple)) else sorted(limit)
    if value in allowed:
        return ""
    close = difflib.get_close_matches(str(value), [str(a) for a in allowed], n=1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    return f"{name} = {value!r}: must be one of {', '.join(map(str, allowed))}{hint}"


def report_dir(name: str, value: str) -> Path:
    """Return the folder a run writes to, made: `reports/local/NAME` for "", else the given path."""
    folder = Path(value).expanduser() if value else files.root() / "reports" / "local" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(f"report_dir {folder}: {error.strerror}; give another one") from error
    return folder.resolve()
