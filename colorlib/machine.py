"""The machine of a run: device, precision, threads and seeds, decided by rule and recorded."""

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import random
import re
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import psutil
import torch
from torch import nn
from torch.optim import Optimizer

# Precision "auto" by kind of model: a fixed rule, so that a run repeats; bf16 halves a U-Net's time
RULES = {"unet": torch.bfloat16, "small": None}
MOST_THREADS = 8
SEATS = Path(tempfile.gettempdir()) / f"colorlib-{os.getuid()}"  # a file for each training
STALE = 60  # seconds after which a seat that nobody has touched is that of a dead process
PACKAGES = ("torch", "torchvision", "fastai", "numpy", "scikit-image", "papermill")

_stand_ins: list[torch.library.Library] = []  # the schemas vanish when their Library does


class MachineError(Exception):
    """What this machine cannot give: a device, threads, a training in parts; one line."""


def guard_torchvision() -> bool:
    """Let torchvision import beside a torch it was not built for; True where that was needed.

    Built for CUDA, beside a CPU-only torch, its compiled operators do not load and its import dies
    on `operator torchvision::nms does not exist`. To declare the two schemas it asks for is enough
    for models, transforms and data sets. It must come before the first import.
    """
    package = importlib.util.find_spec("torchvision")  # which is not imported by this
    for extension in () if _stand_ins else Path(package.origin).parent.glob("_C.*"):
        with contextlib.suppress(ImportError, OSError):
            torch.ops.load_library(extension)
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _stand_ins.append(library)
    return bool(_stand_ins)


@dataclass(frozen=True)
class Machine:
    """Where and how a run computes; `autocast_dtype` None means float32 throughout."""

    device: torch.device
    autocast_dtype: torch.dtype | None
    channels_last: bool
    threads: int

    def autocast(self) -> torch.autocast:
        """Return the mixed precision context of this machine; it does nothing in float32."""
        mixed = self.autocast_dtype is not None
        return torch.autocast(self.device.type, self.autocast_dtype or torch.bfloat16, mixed)

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module to the device and memory format; return it."""
        module = module.to(self.device)
        return module.to(memory_format=torch.channels_last) if self.channels_last else module

    def move(self, tensor: torch.Tensor) -> torch.Tensor:
        """Move a tensor to the device, pictures (four dimensions) also to the memory format."""
        pictures = self.channels_last and tensor.dim() == 4
        layout = torch.channels_last if pictures else torch.preserve_format
        return tensor.to(self.device, non_blocking=True, memory_format=layout)

    def team(self) -> "Team | None":
        """Return the processes that train together, if whoever started this one started several."""
        alone = int(os.environ.get("WORLD_SIZE") or 1) == 1
        return None if alone else Team(self.device.type == "cpu")

    @contextlib.contextmanager
    def shared(self) -> Iterator[Callable[[], None]]:
        """Lend a function, to be called now and then, that takes this training's part of threads.

        Two trainings with all threads each slow each other tenfold: each waits for a thread that
        the other keeps from running. Threads that COLORLIB_THREADS fixes stay as they are.
        """
        seat, looked_at = SEATS / str(os.getpid()), [-STALE]

        def look_around() -> None:
            if time.monotonic() - looked_at[0] < 1:
                return
            looked_at[0] = time.monotonic()
            with contextlib.suppress(OSError):  # without a place for seats nothing is shared
                SEATS.mkdir(exist_ok=True)
                seat.touch()
                taken = [s for s in SEATS.iterdir() if abs(time.time() - s.stat().st_mtime) < STALE]
                if not os.environ.get("COLORLIB_THREADS"):
                    torch.set_num_threads(max(1, self.threads // max(1, len(taken))))

        try:
            yield look_around
        finally:
            with contextlib.suppress(OSError):
                seat.unlink()
            torch.set_num_threads(self.threads)


class Team:
    """The processes of one training, seen from one of them: every batch is shared among them.

    Each computes the whole batch, which depends on its step only, and trains on its part;
    gradients are averaged before an optimizer steps, so all of them keep the same weights.
    """

    def __init__(self, on_cpu: bool) -> None:
        try:
            from accelerate import PartialState, utils
        except ImportError:
            need = "several processes need accelerate: pip install colorlib[devices]"
            raise MachineError(need) from None
        state, self.utils, self.on_cpu = PartialState(cpu=on_cpu), utils, on_cpu
        self.rank, self.count = state.process_index, state.num_processes

    def take(self, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer]) -> list[Any]:
        """Make ready what is trained; the hooks that are returned hold until removed."""
        norms = nn.modules.batchnorm._BatchNorm
        for key, module in modules.items():
            parts = [part for part in module.modules() if isinstance(part, norms)]
            if self.on_cpu and any(part.training for part in parts):
                what = "batch norm sees a part of each batch only, and can be shared on GPUs alone"
                raise MachineError(f"'{key}': {what}; freeze it, or train in one process")
            if not self.on_cpu and nn.SyncBatchNorm.convert_sync_batchnorm(module) is not module:
                raise MachineError(f"'{key}': a batch norm on its own; put it into a Sequential")
        return [each.register_step_pre_hook(self._average) for each in optimizers.values()]

    def agree(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return the first process's state to all; from here on each has chance of its own."""
        [state] = self.utils.broadcast_object_list([state])
        if self.rank:  # not what the first one draws, nor what this one drew before
            torch.manual_seed(torch.initial_seed() + (self.rank << 32) + state["done"])
        return state

    def part(self, batch: Any) -> Any:
        """Return this process's part of a batch: of each of its tensors."""
        return self.utils.recursively_apply(self._part, batch)

    def _part(self, tensor: torch.Tensor) -> torch.Tensor:
        if len(tensor) % self.count:
            raise MachineError(f"a batch of {len(tensor)} is not for {self.count} processes alike")
        return tensor.chunk(self.count)[self.rank]

    def mean(self, report: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return losses over the whole batch: each is a mean over its pictures."""
        return self.utils.reduce(report, "mean")

    def _average(self, optimizer: Optimizer, *_: Any) -> None:
        groups = optimizer.param_groups
        found = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        flat = self.utils.reduce(torch.cat([grad.reshape(-1) for grad in found]), "mean")
        for grad, new in zip(found, flat.split([grad.numel() for grad in found]), strict=True):
            grad.copy_(new.view_as(grad))


def prepare(
    device: str = "auto",
    precision: str = "auto",
    model: str = "unet",
    seed: int = 0,
    threads: int = 0,
) -> Machine:
    """Seed everything, set threads and determinism, and choose device and precision by rule.

    device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:1"; precision: "auto" (RULES; what
    stays in float32 may use TF32 on CUDA), "fp32" or "bf16"; model: "unet" (large and
    convolutional: channels_last) or "small"; threads: 0 takes COLORLIB_THREADS, else the physical
    cores this process may use, at most 8.
    """
    chosen = _device(device)
    if chosen.index is not None and chosen.type == "cuda":
        torch.cuda.set_device(chosen)  # else "cuda" alone would still mean the first one
    asked = os.environ.get("COLORLIB_THREADS") or "0"
    if not asked.isdecimal() or int(asked) > 1024:
        raise MachineError(f"COLORLIB_THREADS={asked}: must be a whole number, 0 (all) to 1024")
    threads = threads or int(asked) or min(physical_cores(), MOST_THREADS)
    torch.set_num_threads(threads)
    random.seed(seed)
    np.random.seed(seed)  # fastai and scikit-image draw from it
    torch.manual_seed(seed)
    # a CPU run is bitwise repeatable; a GPU run is repeatable only statistically, and faster
    torch.use_deterministic_algorithms(chosen.type == "cpu", warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # no code here reads such memory
    torch.backends.cudnn.benchmark = chosen.type == "cuda"
    # TF32 has ten bits of a float32's 23: with it "fp32" would not be what it says
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"
    by_rule = RULES[model] if has_bfloat16(chosen) else None
    mixed = {"auto": by_rule, "fp32": None, "bf16": torch.bfloat16}[precision]
    return Machine(chosen, mixed, model == "unet", threads)


def _device(name: str) -> torch.device:
    if name == "auto":
        own = f":{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else ""  # of several
        name = f"cuda{own}" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise MachineError(f"device {name!r}: must be auto, cpu, cuda or cuda:0")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} CUDA devices"
        raise MachineError(f"device {name!r}: not on this machine ({found}); use 'auto' or 'cpu'")
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Say whether the device multiplies bfloat16 in hardware: a capability, not a timing."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))


def physical_cores() -> int:
    """Count the physical cores this process may use, by its affinity and its container's quota."""
    usable = joblib.cpu_count()
    return min(psutil.cpu_count(logical=False) or usable, usable)


def describe(here: Machine) -> dict[str, Any]:
    """Describe hardware, versions and settings of a run, without names of users."""
    return {
        "device": str(here.device),
        "precision": str(here.autocast_dtype or "float32").removeprefix("torch."),
        "channels_last": here.channels_last,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or "unknown",
        "gpu": torch.cuda.get_device_name(here.device) if here.device.type == "cuda" else None,
        "cores": physical_cores(),
        "threads": here.threads,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def peak_memory() -> dict[str, float]:
    """Return the most memory this process has held so far, in MiB: "host", and "device" on CUDA."""
    unit, status = 1 if platform.system() == "Darwin" else 1024, Path("/proc/self/status")
    told = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    # what Linux tells by getrusage begins with the peak of the process that started this one
    most = told[1] if told else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = {"host": unit * int(most)}
    if torch.cuda.is_available():
        peak["device"] = torch.cuda.max_memory_allocated()
    return {name: round(value / 2**20, 1) for name, value in peak.items()}


class Stopwatch:
    """Measure the `seconds` of a `with` block, the work queued on a GPU included."""

    def __enter__(self) -> "Stopwatch":
        self.seconds = -self._now()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += self._now()

    def _now(self) -> float:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return time.perf_counter()
