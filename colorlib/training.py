"""The training loop: exact resume, a bar, a history and a stop at NaN; and files of weights."""

from __future__ import annotations

import dis
import functools
import hashlib
import json
import math
import os
import random
import re
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from colorlib import files
from colorlib.machine import Machine

if TYPE_CHECKING:
    from colorlib.datasets import PictureSet

FORMAT = "colorlib checkpoint 1"


class NonFiniteLoss(Exception):
    """Training stopped because a loss or a weight is no longer a number."""


class WeightsError(Exception):
    """A file of weights cannot be used; the message is one line with the file and the mend."""


class BatchSource(Protocol):
    """Anything that gives the batch of a step; the batch must depend on the step only."""

    def batch(self, step: int, device: torch.device) -> Any: ...


class Batches:
    """Shuffled, randomly flipped batches whose contents depend on (seed, step) only."""

    def __init__(self, pictures: PictureSet, size: int, seed: int, flip: bool = True) -> None:
        if len(pictures) == 0 or size < 1:
            raise ValueError(f"no batches of {size} from {len(pictures)} pictures")
        self.pictures, self.seed, self.flip = pictures, seed, flip
        self.size = min(size, len(pictures))
        self.steps_per_epoch = len(pictures) // self.size  # the incomplete last batch is dropped

    def indices(self, step: int) -> list[int]:
        """Return which pictures the batch of `step` (0, 1, ...) holds."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.pictures))
        return order[place * self.size : (place + 1) * self.size].tolist()

    def batch(self, step: int, device: torch.device | str) -> Tensor:
        """Return the batch of `step` as uint8 (B, 3, H, W) on the device."""
        batch = _send(self.pictures.tensor(self.indices(step)), device)
        if not self.flip:
            return batch
        coins = np.random.default_rng([self.seed, 1, step]).random(self.size) < 0.5
        mirrored = _send(torch.from_numpy(coins), device).view(-1, 1, 1, 1)
        return torch.where(mirrored, batch.flip(-1), batch)


def _send(tensor: Tensor, device: torch.device | str) -> Tensor:
    if torch.device(device).type == "cuda":  # pinned memory lets the copy overlap with the step
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@dataclass
class History:
    """What a run measured: each loss at every step (NaN where a step did not report it)."""

    name: str
    steps: list[int] = field(default_factory=list)  # 1, 2, ...: optimisation steps done
    losses: dict[str, list[float]] = field(default_factory=dict)
    validation: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0  # of training, over all resumes, without validation and checkpoints
    resumed_at: int | None = None

    def smooth(self, key: str, over: int = 20) -> list[float]:
        """Return the mean of a loss over the `over` steps around each step, NaN left out."""
        values = np.asarray(self.losses[key], dtype=float)
        known = np.isfinite(values)
        places, half = np.arange(len(values)), max(int(over), 1) // 2
        low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
        sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
        counts = np.concatenate([[0], np.cumsum(known)])
        count = counts[high] - counts[low]
        mean = (sums[high] - sums[low]) / np.maximum(count, 1)
        return np.where(count > 0, mean, math.nan).tolist()

    def to_dict(self, points: int = 0) -> dict[str, Any]:
        """Return plain data for JSON; `points` > 0 keeps about that many evenly spaced steps."""
        stride = max(1, math.ceil(len(self.steps) / points)) if points else 1
        kept = slice(stride - 1, None, stride)
        losses = {
            key: [value if math.isfinite(value) else None for value in values[kept]]
            for key, values in self.losses.items()
        }
        return {
            "name": self.name,
            "steps": self.steps[kept],
            "losses": losses,
            "validation": self.validation,
            "seconds": self.seconds,
            "resumed_at": self.resumed_at,
        }

    def _add(self, reports: list[dict[str, Tensor]]) -> None:
        """Fetch the losses of several steps with one transfer; refuse what is not finite."""
        flat = [value for report in reports for value in report.values()]
        values = iter(torch.stack(flat).tolist() if flat else [])
        for report in reports:
            done = len(self.steps) + 1
            for key in report:
                self.losses.setdefault(key, [math.nan] * len(self.steps)).append(next(values))
                if not math.isfinite(self.losses[key][-1]):
                    raise NonFiniteLoss(
                        f"{self.name}: the loss '{key}' is {self.losses[key][-1]} at step {done}; "
                        "lower the learning rate or set precision = 'fp32'"
                    )
            for key in self.losses.keys() - report.keys():
                self.losses[key].append(math.nan)
            self.steps.append(done)


def run(
    name: str,
    step: Callable[[Any, int], dict[str, Tensor]],
    *,
    batches: BatchSource | None,
    steps: int,
    modules: dict[str, nn.Module],
    optimizers: dict[str, Optimizer],
    machine: Machine,
    folder: str | Path | None = None,
    resume: bool = True,
    fingerprint: dict[str, Any] | None = None,
    checkpoint_seconds: float = 20.0,
    validate: Callable[[int], dict[str, Any]] | None = None,
    validate_every: int = 0,
    log_every: int = 10,
    schedule: Callable[[int], float] | None = None,
) -> History:
    """Train for `steps` steps and return the history; go on where an interrupted run stopped.

    Args:
        step: `step(batch, index)` with index 0, 1, ...: optimises and returns the losses to
            record (scalars). Whatever it changes must live in `modules` and `optimizers`;
            chance comes from the global generators of torch, numpy and random.
        batches: gives `batch(index, device)`; None hands None to every step.
        folder: where the checkpoint lives; None keeps none.
        fingerprint: plain data; a checkpoint with another one is set aside. Put in it whatever
            changes the result (and `steps`, if the schedule depends on it), but not the code: a
            checkpoint of another step, schedule or network is noticed without it.
        validate: `validate(steps_done)`, called without gradients, modules in eval mode, at
            multiples of `validate_every` and after the last step.
        log_every: how often the losses are fetched from the device; no effect on results.
        schedule: `schedule(index)`, the factor on every starting learning rate at that step.
    """
    keeper = _Keeper(name, folder, modules, optimizers, machine.device, fingerprint)
    if folder is not None:
        parts = (part for module in modules.values() for part in module.modules())
        keeper.code = _code_digest(step, schedule, batches, *parts)
    progress = _Progress(name, steps)
    history = keeper.restore(steps, resume, progress.say) or History(name)
    reports: list[dict[str, Tensor]] = []
    with progress.shown(len(history.steps)), _deferred_interrupt() as interrupted:
        started = time.perf_counter()
        for index in range(len(history.steps), steps):
            if schedule:
                _set_rates(optimizers, schedule(index))
            batch = batches.batch(index, machine.device) if batches is not None else None
            reports.append(_detached(name, step(batch, index), machine.device))
            done, last = index + 1, index + 1 == steps
            validating = validate and (last or (validate_every and done % validate_every == 0))
            saving = last or interrupted.is_set() or keeper.is_due(checkpoint_seconds)
            if saving or validating or done % log_every == 0:
                history._add(reports)  # waits for the device, so the clock below is honest
                reports.clear()
            history.seconds += time.perf_counter() - started
            if validating:
                with _undisturbed(modules, machine.device):
                    measured = validate(done)
                entry = {"step": done, "seconds": history.seconds, **measured}
                history.validation.append(json.loads(json.dumps(entry, default=_plain)))
            if saving:
                keeper.save(history, progress.say)
            progress.update(done, history)
            if interrupted.is_set():
                kept = "run it again to go on" if keeper.works else "nothing could be saved"
                raise KeyboardInterrupt(f"{name}: stopped at step {done} of {steps}; {kept}")
            started = time.perf_counter()
        progress.finish(history)
    return history


def _detached(name: str, report: dict[str, Any], device: torch.device) -> dict[str, Tensor]:
    scalars = {}
    for key, value in report.items():
        value = torch.as_tensor(value, device=device).detach()
        if value.numel() != 1:
            raise ValueError(f"{name}: loss '{key}' has shape {tuple(value.shape)}, not a number")
        # a copy: the step may reuse the memory of what it returned
        scalars[key] = value.reshape(()).to(torch.float32, copy=True)
    return scalars


def _plain(value: Any) -> Any:
    return value.tolist()  # numbers of numpy and torch, for JSON


def _set_rates(optimizers: dict[str, Optimizer], factor: float) -> None:
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:  # the starting rate is kept as torch's schedulers do
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


@contextmanager
def _undisturbed(modules: dict[str, nn.Module], device: torch.device) -> Iterator[None]:
    """Lend the modules out in eval mode; random states and modes come back as they were."""
    parts = [part for module in modules.values() for part in module.modules()]
    modes, states = [part.training for part in parts], _random_states(device)
    try:
        for part in parts:
            part.training = False
        with torch.no_grad():
            yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode
        _set_random_states(*states, device)


@contextmanager
def _deferred_interrupt() -> Iterator[threading.Event]:
    """Let a first Ctrl-C wait for the end of the step, where the state is whole; not a second."""
    asked = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield asked
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


# ------------------------------------------------------------------------------- checkpoints


def _random_states(device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the states of all global generators: torch's as tensors, the others as plain data."""
    tensors = {"random/torch": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        tensors["random/mps"] = torch.mps.get_rng_state()
    numpy_state = np.random.get_state(legacy=False)
    numpy_state["state"] = {**numpy_state["state"], "key": numpy_state["state"]["key"].tolist()}
    return tensors, {"numpy": numpy_state, "python": random.getstate()}


def _set_random_states(
    tensors: dict[str, Tensor], plain: dict[str, Any], device: torch.device
) -> None:
    torch.set_rng_state(tensors["random/torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random/cuda"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(tensors["random/mps"])
    np.random.set_state(plain["numpy"])
    version, state, gauss = plain["python"]
    random.setstate((version, tuple(state), gauss))


def _state_of(module: nn.Module) -> dict[str, Tensor]:
    return getattr(module, "_orig_mod", module).state_dict()  # a compiled module is its original


@dataclass
class _Keeper:
    """Writes and reads the one checkpoint file of a run."""

    name: str
    folder: str | Path | None
    modules: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]
    device: torch.device
    fingerprint: dict[str, Any] | None
    code: str = ""  # digest of the code that trains

    def __post_init__(self) -> None:
        self.fingerprint = json.loads(json.dumps(self.fingerprint or {}, default=str))
        file = re.sub(r"[^\w.+-]", "_", self.name) + ".checkpoint.safetensors"
        self.path = None if self.folder is None else Path(self.folder) / file
        self.saved_at, self.cost, self.warned = time.monotonic(), 0.0, False
        self.works = self.path is not None  # whether the newest state is on disk

    def is_due(self, seconds: float) -> bool:
        """Tell whether to save now; a slow disk is asked less often (a tenth of the time)."""
        wait = max(seconds, 10 * self.cost) if seconds > 0 else 0.0
        return self.path is not None and time.monotonic() - self.saved_at >= wait

    def save(self, history: History, say: Callable[[str], None]) -> None:
        """Replace the checkpoint; a disk that refuses costs a warning, not the training."""
        if self.path is None:
            return
        content = self._pack(history)
        began = time.monotonic()
        try:
            files.write_atomic(self.path, content)
            self.works = True
        except OSError as problem:
            if not self.warned:
                reason = problem.strerror or problem
                say(
                    f"{self.name}: no new checkpoint {self.path.name} ({reason}); training goes on "
                    "and an older one stays, but make room there"
                )
            self.works, self.warned = False, True
        self.saved_at = time.monotonic()
        self.cost = self.saved_at - began

    def restore(self, steps: int, resume: bool, say: Callable[[str], None]) -> History | None:
        """Load the checkpoint if it is this run's; else move it out of the way and say why."""
        if self.path is None:
            return None
        for partial in self.path.parent.glob(f".{self.path.name}.*"):  # of a killed process
            partial.unlink(missing_ok=True)
        if not self.path.exists():
            return None
        if not resume:
            return self._set_aside("resume is off", "previous", say)
        try:
            tensors, metadata = _read_safetensors(self.path)
            details = json.loads(metadata.get("checkpoint", "{}"))
        except (WeightsError, ValueError):
            return self._set_aside("the checkpoint is damaged", "damaged", say)
        if foreign := self._misfit(tensors, details, steps):
            return self._set_aside(foreign, "previous", say)
        history = self._unpack(tensors, details)
        if history.resumed_at != steps:
            say(f"{self.name}: resumed at step {history.resumed_at} of {steps}")
        return history

    def _set_aside(self, why: str, kind: str, say: Callable[[str], None]) -> None:
        aside = self.path.with_suffix(f".{kind}.safetensors")
        os.replace(self.path, aside)
        say(f"{self.name}: {why}; it is kept as {aside.name}, training starts anew")

    def _misfit(self, tensors: dict[str, Tensor], details: dict, steps: int) -> str:
        if details.get("format") != FORMAT:
            return "the file in the checkpoint's place is not one of ours"
        if details["name"] != self.name:
            return f"the checkpoint is of the run '{details['name']}'"
        if details["fingerprint"] != self.fingerprint:
            return "the checkpoint was made with other settings or data"
        if (made_on := details.get("device", "cpu")) != self.device.type:
            return f"the checkpoint was made on {made_on}, this run is on {self.device.type}"
        if details["history"]["steps"] > steps:
            return f"the checkpoint is past step {steps}"
        found = {k: v.shape for k, v in tensors.items() if k.startswith("module/")}
        wanted = {k: v.shape for k, v in self._module_tensors().items()}
        if found != wanted or details["groups"] != self._groups():
            return "the checkpoint is of another network or optimizer"
        if details.get("code", self.code) != self.code:  # the first checkpoints held none
            return "the code that trains has changed"
        return ""

    def _module_tensors(self) -> dict[str, Tensor]:
        return {
            f"module/{name}/{key}": value
            for name, module in self.modules.items()
            for key, value in _state_of(module).items()
        }

    def _groups(self) -> dict[str, list[int]]:
        return {
            f"{name}: {type(optimizer).__name__}": [len(g["params"]) for g in groups]
            for name, optimizer in self.optimizers.items()
            if (groups := optimizer.param_groups)
        }

    def _pack(self, history: History) -> bytes:
        tensors, plain_random = _random_states(self.device)
        tensors |= self._module_tensors()
        for name, module in self.modules.items():
            if not all(bool(p.detach().isfinite().all()) for p in module.parameters()):
                raise NonFiniteLoss(
                    f"{self.name}: a weight of '{name}' is not finite after step "
                    f"{len(history.steps)}; lower the learning rate or set precision = 'fp32'"
                )
        states: dict[str, Any] = {}
        for name, optimizer in self.optimizers.items():
            state = optimizer.state_dict()
            states[name] = {"groups": state["param_groups"], "plain": {}}
            for index, entries in state["state"].items():
                plain = states[name]["plain"][index] = {}
                for key, value in entries.items():
                    if isinstance(value, Tensor):
                        tensors[f"optimizer/{name}/{index}/{key}"] = value
                    else:
                        plain[key] = value
        for key, values in history.losses.items():
            tensors[f"history/{key}"] = torch.tensor(values, dtype=torch.float64)
        details = {
            "format": FORMAT,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "device": self.device.type,
            "code": self.code,
            "groups": self._groups(),
            "optimizers": states,
            "random": plain_random,
            "history": {
                "steps": len(history.steps),
                "losses": list(history.losses),
                "validation": history.validation,
                "seconds": history.seconds,
            },
        }
        return _to_bytes(tensors, {"checkpoint": json.dumps(details, default=_plain)})

    def _unpack(self, tensors: dict[str, Tensor], details: dict[str, Any]) -> History:
        with torch.no_grad():
            for key, value in self._module_tensors().items():
                value.copy_(tensors[key])
        for name, optimizer in self.optimizers.items():
            saved = details["optimizers"][name]
            state = {int(index): dict(plain) for index, plain in saved["plain"].items()}
            for key, value in tensors.items():
                if key.startswith(prefix := f"optimizer/{name}/"):
                    index, entry = key[len(prefix) :].split("/", 1)
                    state[int(index)][entry] = value
            optimizer.load_state_dict({"state": state, "param_groups": saved["groups"]})
            for parameter, entries in optimizer.state.items():
                for entry, value in entries.items():
                    # the parameter's memory format, as the undisturbed optimizer has it; the
                    # count of steps stays where the optimizer wants it, on the host mostly
                    own = entry != "step" and isinstance(value, Tensor)
                    if own and value.shape == parameter.shape:
                        entries[entry] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        _set_random_states(tensors, details["random"], self.device)
        kept = details["history"]
        losses = {key: tensors[f"history/{key}"].tolist() for key in kept["losses"]}
        count, validation = kept["steps"], kept["validation"]
        numbers = list(range(1, count + 1))
        return History(self.name, numbers, losses, validation, kept["seconds"], count)


# -------------------------------------------------------------------------- the code that trains

FOLLOWED = (type, FunctionType, MethodType, functools.partial)
INSTALLED = ("site-packages", "dist-packages", sysconfig.get_path("stdlib") + os.sep)


def _code_digest(*roots: Any) -> str:
    """Return a digest of our own code behind functions, methods, classes and instances.

    A method stands for all of its class. Functions, classes and UPPERCASE constants that the code
    names are followed. Installed packages do not count, nor do comments and docstrings.
    """
    todo: list[Any] = [root if isinstance(root, FOLLOWED) else type(root) for root in roots]
    seen: dict[int, Any] = {}  # keeps what it has seen alive: no other thing can get its id
    found: set[str] = set()
    while todo:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if isinstance(thing, type):
            inside = [pair for kind in thing.__mro__ for pair in vars(kind).items()]
            todo += [value for _, value in inside]
            found |= {f"{name} = {_constant(value)}" for name, value in inside if name.isupper()}
        elif isinstance(thing, MethodType):
            owner = thing.__self__
            todo += [thing.__func__, owner if isinstance(owner, type) else type(owner)]
        elif isinstance(thing, (staticmethod, classmethod)):
            todo.append(thing.__func__)
        elif isinstance(thing, property):
            todo += [thing.fget, thing.fset]
        elif isinstance(thing, (functools.partial, functools.cached_property)):
            todo.append(thing.func)
        elif isinstance(thing, FunctionType):
            todo.append(getattr(thing, "__wrapped__", None))  # what a decorator was given
            if not any(place in thing.__code__.co_filename for place in INSTALLED):
                found.add(f"{thing.__qualname__}: {_function(thing)}")
                named = _named(thing)
                todo += [value for value in named.values() if isinstance(value, FOLLOWED)]
                found |= {f"{n} = {_constant(value)}" for n, value in named.items() if n.isupper()}
    return hashlib.sha1("\n".join(sorted(found)).encode()).hexdigest()


def _function(function: FunctionType) -> list[Any]:
    code = function.__code__
    if function.__doc__ is not None and code.co_consts[:1] == (function.__doc__,):
        code = code.replace(co_consts=(None, *code.co_consts[1:]))
    return [_constant(v) for v in (code, function.__defaults__, function.__kwdefaults__)]


def _constant(value: Any) -> Any:
    """Describe a constant by what is the same in every process: no address, no order of a set."""
    if isinstance(value, CodeType):
        parts = (value.co_code, value.co_names, value.co_freevars, value.co_consts)
        return [_constant(part) for part in parts]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(_constant(item)) for item in value)
    if isinstance(value, (list, tuple)):
        return [_constant(item) for item in value]
    if isinstance(value, dict):
        return [[_constant(key), _constant(item)] for key, item in value.items()]
    plain = (bool, int, float, complex, str, bytes, type(None))
    return repr(value) if isinstance(value, plain) else type(value).__name__


def _named(function: FunctionType) -> dict[str, Any]:
    """Return the globals and the variables of outer functions that a function names."""
    codes, names = [function.__code__], set()
    while codes:
        code = codes.pop()
        names |= {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    named = {name: function.__globals__[name] for name in names & function.__globals__.keys()}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # an empty cell
            named[name] = cell.cell_contents
    return named


# --------------------------------------------------------------------------- files of weights


def count_parameters(module: nn.Module) -> float:
    """Return how many millions of trained numbers a network has."""
    return sum(p.numel() for p in module.parameters()) / 1e6


def save_weights(
    path: str | Path, module: nn.Module, info: dict[str, Any], half: bool = False
) -> None:
    """Write a module's weights and `info` (plain data) as safetensors; half: float16 weights."""
    tensors = dict(_state_of(module))
    if half:  # buffers stay: a running variance can exceed float16
        for key, _ in getattr(module, "_orig_mod", module).named_parameters():
            tensors[key] = tensors[key].half()
    files.write_atomic(path, _to_bytes(tensors, {"info": json.dumps(info)}))


def read_info(path: str | Path) -> dict[str, Any]:
    """Return the `info` that `save_weights` wrote into the file's header."""
    with _opened(Path(path)) as stream:
        metadata = stream.metadata() or {}
    if "info" not in metadata:
        raise WeightsError(f"{path}: weights without our info; give a file that a notebook saved")
    with suppress(ValueError):
        if isinstance(info := json.loads(metadata["info"]), dict):
            return info
    raise WeightsError(f"{path}: the info in its header is damaged; fetch or train it again")


def load_weights(path: str | Path, module: nn.Module) -> None:
    """Load a safetensors or .pth file into the module: every key and shape must match.

    Only the counts of batches that a batch norm has seen may be absent, as in old files of torch.
    """
    foreign = Path(path).suffix in (".pth", ".pt")
    tensors = read_foreign(path) if foreign else _read_safetensors(Path(path))[0]
    wanted = _state_of(module)
    needed = [key for key in wanted if key.rsplit(".", 1)[-1] != "num_batches_tracked"]
    problems = [f"{key} is missing" for key in needed if key not in tensors]
    problems += [f"{key} is unknown to this network" for key in tensors if key not in wanted]
    problems += [
        f"{key} is {tuple(tensors[key].shape)}, not {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        what = "; ".join(problems[:3])
        raise WeightsError(f"{path}: weights of another network ({what}{more})")
    with torch.no_grad():
        for key in wanted.keys() & tensors.keys():
            wanted[key].copy_(tensors[key])


def read_foreign(path: str | Path) -> dict[str, Any]:
    """Return the tensors of a .pth file without running its code; float16 becomes float32."""
    if not Path(path).is_file():
        raise WeightsError(f"{path}: no such file; check the path of the weights")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # torch raises many kinds for a bad file
        reason = f"{type(problem).__name__}: {problem}".splitlines()[0][:120]
        raise WeightsError(f"{path}: not a readable file of plain weights ({reason})") from problem
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, not a table of weights")
    return _in_single_precision(content)


def _in_single_precision(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _in_single_precision(value) for key, value in content.items()}
    return content.float() if getattr(content, "dtype", None) == torch.float16 else content


def _to_bytes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    plain, seen = {}, set()
    for key, value in tensors.items():
        plain[key] = value.detach().cpu().contiguous()
        memory = plain[key].untyped_storage().data_ptr()
        if memory in seen:  # safetensors refuses tied weights
            plain[key] = plain[key].clone()
        seen.add(memory)
    return to_safetensors(plain, metadata)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; check the path of the weights")
    try:
        with safe_open(path, "pt") as stream:
            yield stream
    except (SafetensorError, OSError) as problem:
        reason = str(problem).splitlines()[0]
        raise WeightsError(
            f"{path}: not a whole safetensors file ({reason}); fetch or train it again"
        ) from problem


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with _opened(path) as stream:
        tensors = {key: stream.get_tensor(key).clone() for key in stream.keys()}  # noqa: SIM118
        return tensors, stream.metadata() or {}


# ----------------------------------------------------------------------------------- progress


class _Progress:
    """One line that moves: a display in a notebook kernel, tqdm elsewhere, a file if asked."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total = label, total
        self.kernel, self.handle, self.bar = _in_kernel(), None, None
        self.file = os.environ.get("COLORLIB_PROGRESS")
        self.drawn_at = self.filed_at = -math.inf

    def say(self, text: str) -> None:
        """Print a line beside the bar."""
        if self.kernel:
            print(text, flush=True)
        else:
            tqdm.write(text, file=sys.stderr)

    @contextmanager
    def shown(self, start: int) -> Iterator[None]:
        """Show the bar for the length of the block."""
        self.start, self.began = start, time.monotonic()
        if not self.kernel:
            self.bar = tqdm(
                total=self.total,
                initial=start,
                desc=self.label,
                unit="step",
                leave=False,
                disable=None,
                mininterval=0.3,
            )
        try:
            yield
        finally:
            if self.bar is not None:
                self.bar.close()

    def update(self, done: int, history: History) -> None:
        """Draw the state after `done` steps, a few times a second at most."""
        now = time.monotonic()
        if self.bar is not None:
            self.bar.update(done - self.bar.n)
        if self.kernel and now - self.drawn_at >= 0.4:
            left = (now - self.began) / (done - self.start) * (self.total - done)
            self._display(f"{self.label}: step {done} of {self.total}, {_duration(left)} left")
            self.drawn_at = now
        if self.file and now - self.filed_at >= 0.5:
            self._file(done, history)
            self.filed_at = now

    def finish(self, history: History) -> None:
        """Leave one line that says what the run took."""
        done = len(history.steps)
        pace = _duration(history.seconds / max(done, 1))
        line = f"{self.label}: {done} steps in {_duration(history.seconds)} ({pace} a step)"
        if history.resumed_at is not None:
            line += ", finished before" if history.resumed_at == done else ", resumed"
        if self.file:
            self._file(done, history)
        if self.kernel:
            self._display(line)
        else:
            self.bar.close()
            self.say(line)

    def _display(self, text: str) -> None:
        from IPython.display import display

        content = {"text/plain": text}
        if self.handle is None:
            self.handle = display(content, raw=True, display_id=True)
        else:
            self.handle.update(content, raw=True)

    def _file(self, done: int, history: History) -> None:
        state = {"label": self.label, "done": done, "total": self.total}
        with suppress(OSError):  # a full disk must not end a training for the sake of a bar
            files.write_json(self.file, {**state, "seconds": round(history.seconds, 3)})


def _in_kernel() -> bool:
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def _duration(seconds: float) -> str:
    if seconds >= 120:
        return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
