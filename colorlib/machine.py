"""The machine of a run: device, precision, threads and seeds, decided by rule and recorded."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import platform
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

# Precision "auto" by device and kind of model. A fixed rule, not a timing at run time, so that a
# run repeats. Measured for fastai's DynamicUnet(resnet18) on two cores with avx512_bf16: bf16 and
# channels_last take a step from 1.24 s to 0.54 s (64 px, batch 16), from 2.9 s to 1.2 s (256 px).
# Small models stay in float32: nothing was measured that would speak against the safer choice.
RULES: dict[tuple[str, str], torch.dtype | None] = {
    ("cpu", "unet"): torch.bfloat16,
    ("cpu", "small"): None,
    ("cuda", "unet"): torch.bfloat16,
    ("cuda", "small"): None,
    ("mps", "unet"): None,
    ("mps", "small"): None,
}
MODELS = ("unet", "small")
PRECISIONS = ("auto", "fp32", "bf16")
MOST_THREADS = 8
PACKAGES = ("fastai", "numpy", "scikit-image", "papermill")
MEBIBYTE = 2**20

_stand_ins: list[torch.library.Library] = []  # the schemas vanish when their Library does


class MachineError(Exception):
    """A device, precision or model kind that this machine cannot give; one line."""


def guard_torchvision() -> bool:
    """Let torchvision import beside a torch it was not built for; True where that was needed.

    The default torchvision wheel is built for CUDA; beside a CPU-only torch its compiled operators
    do not load and its import dies on `operator torchvision::nms does not exist`. Declaring the two
    schemas it asks for is enough for models, transforms and data sets. This must come before the
    first import of torchvision, which would leave half of itself in `sys.modules`.
    """
    if not _stand_ins and not _has_compiled_operators():
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _stand_ins.append(library)
    return bool(_stand_ins)


def _has_compiled_operators() -> bool:
    """Load torchvision's `_C` extension without importing torchvision; True also without either."""
    package = importlib.util.find_spec("torchvision")
    if hasattr(torch.ops.torchvision, "nms") or package is None:
        return True
    loader = (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
    folder = (package.submodule_search_locations or [""])[0]
    extension = importlib.machinery.FileFinder(folder, loader).find_spec("_C")
    if extension is None or extension.origin is None:
        return False
    try:
        torch.ops.load_library(extension.origin)
    except (ImportError, OSError):
        return False
    return hasattr(torch.ops.torchvision, "nms")


@dataclass(frozen=True)
class Machine:
    """Where and how a run computes; `autocast_dtype` None means float32 throughout."""

    device: torch.device
    autocast_dtype: torch.dtype | None
    channels_last: bool
    threads: int

    def autocast(self) -> contextlib.AbstractContextManager:
        """Return the mixed precision context of this machine; it does nothing in float32."""
        if self.autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module to the device and memory format; return it."""
        if self.channels_last:
            return module.to(self.device, memory_format=torch.channels_last)
        return module.to(self.device)

    def move(self, tensor: torch.Tensor) -> torch.Tensor:
        """Move a tensor to the device, pictures (four dimensions) also to the memory format."""
        if self.channels_last and tensor.dim() == 4:
            return tensor.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        return tensor.to(self.device, non_blocking=True)


def prepare(
    device: str = "auto",
    precision: str = "auto",
    model: str = "unet",
    seed: int = 0,
    threads: int = 0,
) -> Machine:
    """Seed everything, set threads and determinism, and choose device and precision by rule.

    Args:
        device: "auto" (CUDA if there is one, else the processor), "cpu", "cuda", "cuda:1", "mps".
        precision: "auto" (RULES; what stays in float32 may use TF32 on CUDA), "fp32" or "bf16".
        model: "unet" (large and convolutional: channels_last) or "small".
        seed: 0 to 2^32 - 1, for random, numpy and torch.
        threads: 0 takes COLORLIB_THREADS, where the batch runner divides the machine among several
            notebooks, else the physical cores this process may use, at most 8.
    """
    if precision not in PRECISIONS:
        raise MachineError(f"precision {precision!r}: must be one of {', '.join(PRECISIONS)}")
    if model not in MODELS:
        raise MachineError(f"model {model!r}: must be one of {', '.join(MODELS)}")
    chosen = _device(device)
    if chosen.index is not None and chosen.type == "cuda":
        torch.cuda.set_device(chosen)  # else "cuda" alone would still mean the first one
    threads = threads or _default_threads()
    torch.set_num_threads(threads)
    _seed(seed)
    _determine(chosen)
    # TF32 has ten bits of a float32's 23: with it "fp32" would not be what it says
    torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    return Machine(chosen, _autocast_dtype(chosen, precision, model), model == "unet", threads)


def _default_threads() -> int:
    asked = os.environ.get("COLORLIB_THREADS") or "0"
    if not asked.isdecimal():
        raise MachineError(f"COLORLIB_THREADS={asked}: must be a whole number, 0 for all cores")
    return int(asked) or min(physical_cores(), MOST_THREADS)


def _device(name: str) -> torch.device:
    """Return the device of that name, or raise MachineError when this machine has none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type == "cpu":
        return device
    if device.type == "mps" and torch.backends.mps.is_available():
        return device
    if device.type == "cuda" and (device.index or 0) < torch.cuda.device_count():
        return device
    if device.type in ("cuda", "mps"):
        found = f"{torch.cuda.device_count()} CUDA devices"
        raise MachineError(f"device {name!r}: not on this machine ({found}); use 'auto' or 'cpu'")
    raise MachineError(f"device {name!r}: must be auto, cpu, cuda, cuda:0 or mps")


def _autocast_dtype(device: torch.device, precision: str, model: str) -> torch.dtype | None:
    """Return the type of mixed precision, None for float32."""
    if precision == "fp32":
        return None
    if precision == "bf16":
        return torch.bfloat16
    return RULES[device.type, model] if has_bfloat16(device) else None


def has_bfloat16(device: torch.device) -> bool:
    """Say whether the device multiplies bfloat16 in hardware: a capability, not a timing."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    return False


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # fastai and scikit-image draw from it
    torch.manual_seed(seed)


def _determine(device: torch.device) -> None:
    """Make a CPU run bitwise repeatable; a GPU run is repeatable only statistically, and faster."""
    torch.use_deterministic_algorithms(device.type == "cpu", warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # no code here reads such memory
    torch.backends.cudnn.benchmark = device.type == "cuda"


def physical_cores() -> int:
    """Count the physical cores this process may use, by its affinity and its container's quota."""
    allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    cores = {_core(number) for number in allowed}
    return max(1, min(len(cores), _quota()))


def _core(number: int) -> tuple[str, ...]:
    """Name the physical core of a logical one; two hardware threads share the name."""
    topology = Path(f"/sys/devices/system/cpu/cpu{number}/topology")
    try:
        return tuple((topology / f).read_text() for f in ("physical_package_id", "core_id"))
    except OSError:
        return (str(number),)


def _quota() -> int:
    """Return the whole cores a Linux container grants, a large number where nothing limits it."""
    try:
        granted, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, int(granted) // int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return 2**16


def describe(device: torch.device | None = None) -> dict[str, Any]:
    """Describe hardware and versions for a report, without names of users, hosts or folders.

    The GPU is named for a run on CUDA only; without a device, wherever there is one.
    """
    on_gpu = torch.cuda.is_available() and (device is None or device.type == "cuda")
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "cores": physical_cores(),
        "threads": torch.get_num_threads(),
        "versions": {name: _version(name) for name in ("torch", "torchvision", *PACKAGES)},
    }


def _cpu_name() -> str:
    return torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or "unknown"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def peak_memory() -> dict[str, float]:
    """Return the most memory this process has held so far, in MiB: "host", and "device" on CUDA."""
    peak = {"host": _peak_host_bytes() / MEBIBYTE}
    if torch.cuda.is_available():
        peak["device"] = torch.cuda.max_memory_allocated() / MEBIBYTE
    return {name: round(value, 1) for name, value in peak.items()}


def _peak_host_bytes() -> int:
    if platform.system() == "Windows":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Stopwatch:
    """Measure the seconds of a `with` block, the work queued on a GPU included."""

    seconds: float = 0.0

    def __enter__(self) -> Stopwatch:
        _finish_queued_work()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        _finish_queued_work()
        self.seconds = time.perf_counter() - self._start


def _finish_queued_work() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
