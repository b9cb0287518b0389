"""Where things stand on disk, and how they are read and written: whole or not at all."""

import hashlib
import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"
FLOORS = ("grey_floor", "mean_ab")  # rows of every scored report: one colour for all pictures


def root() -> Path:
    """Return the project's folder: COLORLIB_ROOT, or the one that holds this package."""
    return Path(os.environ.get("COLORLIB_ROOT") or Path(__file__).parents[1]).resolve()


def data_root() -> Path:
    """Return the folder of data sets and caches: COLORLIB_DATA, or data/ of the project."""
    return Path(os.environ.get("COLORLIB_DATA") or root() / "data").resolve()


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Write a file so that a reader, or a crash, never sees half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")  # short: the name may be long itself
    try:
        with open(partial, "xb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Bring a folder's files to the disk: the name it gets next must not name empty ones."""
    for path in filter(Path.is_file, folder.rglob("*")):
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())


def plain_data(value: Any) -> Any:
    """Turn tuples, paths and numbers of numpy and torch into what JSON knows; NaN into None."""

    def known(item: Any) -> Any:
        return item.tolist() if hasattr(item, "tolist") else os.fspath(item)

    return json.loads(json.dumps(value, default=known), parse_constant=lambda not_finite: None)


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON that every reader accepts."""
    write_atomic(path, json.dumps(plain_data(value), indent=1, ensure_ascii=False) + "\n")


def read_json(path: str | Path, strict: bool = False) -> dict[str, Any]:
    """Read a JSON object; {} when it is missing or damaged, or, if strict, the error."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("it is no JSON object")
        return value
    except (OSError, ValueError):
        if strict:
            raise
        return {}


def fill(template: str, **values: Any) -> str:
    """Fill one of our templates, of a page, a table or a slider."""
    import jinja2  # not before it is needed

    how = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    how |= {"autoescape": jinja2.select_autoescape(["html.j2"])}
    made = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), **how)
    return made.get_template(template).render(**values)


def git(folder: Path, *words: str) -> str | None:
    """Return what git says of a folder; None when it cannot."""
    # without optional locks two notebooks that end together do not disturb each other
    command = ["git", "--no-optional-locks", "-C", str(folder), *words]
    elsewhere = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # as set while a hook runs
    environment = {key: value for key, value in os.environ.items() if key not in elsewhere}
    options = {"capture_output": True, "timeout": 20, "check": True, "env": environment}
    try:
        return os.fsdecode(subprocess.run(command, **options).stdout).strip()
    except (OSError, subprocess.SubprocessError):
        return None


def sha(what: str | Path | bytes, kind: str = "sha256") -> str:
    """Return the hex digest of a file (given by its path) or of bytes."""
    data = what if isinstance(what, bytes) else Path(what).read_bytes()
    return hashlib.new(kind, data).hexdigest()


def plain(text: str) -> str:
    """Return a text on one line: a newline or a control character in a name is spelled out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def duration(seconds: float) -> str:
    """Write a time as a person says it: 0.25 s, 8 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.2g} s" if seconds < 9.5 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
