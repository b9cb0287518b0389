"""Settings that the C library and OpenMP read once, when a process starts."""

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

from colorlib import files

# threads wait asleep, so that two processes share the cores; tensors get big pages and keep them
SPEED = {
    "OMP_WAIT_POLICY": "passive",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0"
    ":glibc.malloc.trim_threshold=1000000000000",
}
ONCE = "COLORLIB_SPEED"  # set when colorlib has started itself again


def fast_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what is to be added to an environment: on Linux with glibc, what is not set there."""
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return {}
    return {name: value for name, value in SPEED.items() if name not in environ}


def re_execute() -> None:
    """Start the same command anew with the settings; at most once, never in a kernel."""
    added = fast_environment(os.environ)
    if added and ONCE not in os.environ and not {"pytest", "ipykernel"} & sys.modules.keys():
        sys.stdout.flush()
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **added, ONCE: "1"})


def write_kernel_spec(prefix: str | Path = sys.prefix) -> None:
    """Put the settings into the kernel of an environment, so that JupyterLab starts with them."""
    path = Path(prefix) / "share/jupyter/kernels/python3/kernel.json"
    spec = files.read_json(path, strict=True)
    files.write_json(path, {**spec, "env": {**fast_environment({}), **spec.get("env", {})}})


if __name__ == "__main__":
    write_kernel_spec()
