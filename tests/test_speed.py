"""The settings of a fast start: added where they are not set, once, and in the kernel's spec."""

import json
import os
import subprocess
import sys

import pytest

from colorlib.batch import speed

linux = pytest.mark.skipif(not speed.fast_environment({}), reason="needs Linux with glibc")


def test_nothing_is_added_elsewhere_or_twice(monkeypatch):
    monkeypatch.setattr(speed.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert speed.fast_environment({}) == speed.SPEED
    own = {"GLIBC_TUNABLES": "glibc.malloc.check=1"}
    assert speed.fast_environment(own) == {"OMP_WAIT_POLICY": "passive"}
    assert speed.fast_environment(speed.SPEED) == {}
    monkeypatch.setattr(speed.platform, "libc_ver", lambda: ("", ""))
    assert speed.fast_environment({}) == {}
    monkeypatch.setattr(sys, "platform", "darwin")
    assert speed.fast_environment({}) == {}


CHILD = """
import os, sys
from colorlib.batch import speed
print("start", flush=True)
speed.re_execute()
print([os.environ.get(name) for name in speed.SPEED] == list(speed.SPEED.values()), sys.argv[1:])
sys.exit(7)
"""


def started(*before: str, **extra: str) -> list[str]:
    environ = {key: v for key, v in os.environ.items() if key not in (*speed.SPEED, speed.ONCE)}
    command = [sys.executable, *before, "-c", CHILD, "a b", "--c=1"]
    done = subprocess.run(command, env={**environ, **extra}, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    return done.stdout.splitlines()


@linux
def test_a_command_starts_itself_again_once_with_its_arguments_and_status():
    assert started("-X", "utf8") == ["start", "start", "True ['a b', '--c=1']"]


@linux
def test_it_does_not_where_all_is_set_or_it_did_already_or_a_kernel_runs():
    assert started(**speed.SPEED) == ["start", "True ['a b', '--c=1']"]
    assert started(**{speed.ONCE: "1"}) == ["start", "False ['a b', '--c=1']"]
    speed.re_execute()  # inside pytest: this process goes on


@linux
def test_the_kernel_spec_carries_them_and_keeps_what_was_there(tmp_path):
    path = tmp_path / "share/jupyter/kernels/python3/kernel.json"
    path.parent.mkdir(parents=True)
    spec = {"argv": ["python"], "env": {"OMP_WAIT_POLICY": "active", "A": "1"}}
    path.write_text(json.dumps(spec))
    speed.write_kernel_spec(tmp_path)
    expected = {**speed.SPEED, **spec["env"]}
    assert json.loads(path.read_text()) == {"argv": ["python"], "env": expected}
    with pytest.raises(OSError):
        speed.write_kernel_spec(tmp_path / "elsewhere")
