"""The training loop: exact resume, a moving average, curves beside grey; and files of weights."""

import copy
import io
import json
import math
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from colorlib import color, files
from colorlib.datasets import PictureSet
from colorlib.machine import Machine, Team

ENDING = ".checkpoint.pth"


class NonFiniteLoss(Exception):
    """Training stopped because a loss or a weight is no longer a number."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; lower the learning rate or set precision = 'fp32'")


class WeightsError(Exception):
    """A file of weights cannot be used; the message is one line with the file and the mend."""


@dataclass
class Batches:
    """Shuffled batches, mirrored and cropped at random; contents depend on (seed, step) only."""

    pictures: PictureSet
    size: int
    seed: int
    side: int | Mapping[int, int] = 0  # in pixels; {0: 64, 400: 96} grows at step 400; 0: as it is
    crop: float = 1.0  # the least share of a picture's side that a random crop keeps

    def __post_init__(self) -> None:
        if len(self.pictures) == 0 or self.size < 1:
            raise ValueError(f"no batches of {self.size} from {len(self.pictures)} pictures")
        self.size = min(self.size, len(self.pictures))
        self.steps_per_epoch = len(self.pictures) // self.size  # an incomplete one is dropped

    def indices(self, step: int) -> list[int]:
        """Return which pictures the batch of `step` (0, 1, ...) holds."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.pictures))
        return order[place * self.size : (place + 1) * self.size].tolist()

    def batch(self, step: int, device: torch.device | str) -> Tensor:
        """Return the batch of `step` as uint8 (B, 3, H, W) on the device."""
        batch = self._framed(self.pictures.tensor(self.indices(step)).to(device), step)
        coins = np.random.default_rng([self.seed, 1, step]).random(self.size) < 0.5
        mirrored = torch.from_numpy(coins).to(device).view(-1, 1, 1, 1)
        return torch.where(mirrored, batch.flip(-1), batch)

    def _framed(self, batch: Tensor, step: int) -> Tensor:
        """Cut a random square from each square picture, and bring it to the side of this step."""
        whole = batch.shape[-1]
        sides = {0: self.side} if isinstance(self.side, int) else self.side
        side = sides[max(start for start in sides if start <= step)] or whole
        if side == whole and self.crop == 1:
            return batch
        chance, framed = np.random.default_rng([self.seed, 2, step]), []
        for picture in batch.float():
            kept = round(whole * chance.uniform(self.crop, 1))
            top, left = chance.integers(0, whole - kept + 1, 2)
            part = picture[None, :, top : top + kept, left : left + kept]
            framed.append(F.interpolate(part, (side, side), mode="bilinear", antialias=True))
        return torch.cat(framed).round_().to(torch.uint8)


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
        values, half = np.asarray(self.losses[key], dtype=float), over // 2
        known, around = np.isfinite(values), slice(half, half + len(values))
        parts = (np.where(known, values, 0.0), known.astype(float))
        sums, counts = (np.convolve(part, np.ones(2 * half + 1))[around] for part in parts)
        return np.where(counts > 0, sums / np.maximum(counts, 1), math.nan).tolist()

    def then(self, later: "History") -> "History":
        """Return this run and `later`, which follows it, as one: the losses that both report."""
        past, both = len(self.steps), self.losses.keys() & later.losses.keys()
        losses = {key: self.losses[key] + later.losses[key] for key in self.losses if key in both}
        found = [entry | {"step": entry["step"] + past} for entry in later.validation]
        steps = self.steps + [past + step for step in later.steps]
        return History(
            self.name, steps, losses, self.validation + found, self.seconds + later.seconds
        )

    def to_dict(self, points: int = 0) -> dict[str, Any]:
        """Return plain data; `points` > 0 keeps about that many evenly spaced steps."""
        stride = max(1, math.ceil(len(self.steps) / points)) if points else 1
        kept = slice(stride - 1, None, stride)
        losses = {key: values[kept] for key, values in self.losses.items()}
        return {**asdict(self), "steps": self.steps[kept], "losses": losses}

    def _add(self, reports: list[dict[str, Tensor]]) -> None:
        """Fetch the losses of several steps; refuse what is not finite."""
        for report in reports:
            done = len(self.steps) + 1
            for key in self.losses | report:
                value = report[key].item() if key in report else math.nan
                if key in report and not math.isfinite(value):
                    raise NonFiniteLoss(f"{self.name}: the loss '{key}' is {value} at step {done}")
                self.losses.setdefault(key, [math.nan] * len(self.steps)).append(value)
            self.steps.append(done)


class EMA(nn.Module):
    """A moving average of a network's weights and running statistics; `module` is what paints."""

    def __init__(self, module: nn.Module, decay: float = 0.995) -> None:
        super().__init__()
        self.module, self.decay = copy.deepcopy(module).requires_grad_(False).eval(), decay
        self.register_buffer("steps", torch.tensor(0))

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move a little towards the network as it is now."""
        steps = int(self.steps)
        # quickly at first: random weights are soon forgotten
        share = 1 - min(self.decay, (1 + steps) / (10 + steps))
        now = module.state_dict()
        for key, mean in self.module.state_dict().items():
            mean.lerp_(now[key], share) if mean.is_floating_point() else mean.copy_(now[key])
        self.steps += 1


def norms_that_sleep(module: nn.Module) -> list[str]:
    """Name the batch norms in eval mode that should learn: their weights want gradients."""
    norms = nn.modules.batchnorm._BatchNorm
    parts = [(k, m) for k, m in module.named_modules() if isinstance(m, norms) and not m.training]
    return [name for name, norm in parts if all(p.requires_grad for p in norm.parameters())]


@torch.no_grad()
def constant_lines(pictures: PictureSet, on: PictureSet) -> dict[str, float]:
    """Return what painting "grey", and the best "constant" colour, is wrong by: mean |ab / 110|.

    Best for `pictures`, those of training; measured `on` those of validation, on an even share of
    their pixels.
    """
    best, met = _colours(pictures).median(1, keepdim=True).values, _colours(on)
    return {"grey": met.abs().mean().item(), "constant": (met - best).abs().mean().item()}


def _colours(pictures: PictureSet) -> Tensor:
    """Return ab / 110 of many pixels, (2, N)."""
    rgb = pictures.spread(500).tensor()
    thin = max(1, rgb.shape[-1] // 64)
    return color.to_network(rgb[..., ::thin, ::thin])[1].transpose(0, 1).flatten(1)


def run(
    name: str,
    step: Callable[[Any, int], dict[str, Tensor]],
    *,
    batches: Any,
    steps: int,
    modules: dict[str, nn.Module],
    optimizers: dict[str, Optimizer],
    machine: Machine,
    average: Mapping[str, EMA] | None = None,
    folder: str | Path | None = None,
    resume: bool = True,
    fingerprint: dict[str, Any] | None = None,
    define: str = "",
    checkpoint_seconds: float = 60.0,
    validate: Callable[[int], dict[str, Any]] | None = None,
    validate_every: int = 0,
    schedule: Callable[[int], float] | None = None,
) -> History:
    """Train for `steps` steps and return the history; go on where an interrupted run stopped.

    `step(batch, index)`, index 0, 1, ..., optimises and returns the losses to record; whatever it
    changes lives in `modules` and `optimizers`, chance is the global one. `batches`, if any, give
    `batch(index, device)`, which depends on the index only. average: of some modules, by their
    names. folder: of the checkpoint, if any. fingerprint, define: settings, data (and `steps`, if
    the schedule depends on it) and the hash of the code: they tell runs apart. validate: by
    `validate(steps_done)`, every so many steps and after the last. schedule: `schedule(index)` is
    the factor on every starting learning rate.
    """
    asleep = [f"{key}.{part}" for key, m in modules.items() for part in norms_that_sleep(m)]
    if asleep:
        what = f"{len(asleep)} batch norms sleep in eval mode ({asleep[0]} ...)"
        raise ValueError(f"{name}: {what}; call train(), or freeze their weights")
    average = average or {}
    kept = modules | {f"average of {key}": mean for key, mean in average.items()}
    team = machine.team()
    own = None if team and team.rank else folder  # the first process keeps the checkpoint
    checkpoint = _Checkpoint(name, kept, optimizers, machine, own, (fingerprint, define))
    history, progress = checkpoint.restore(steps, resume), _Progress(name, steps)
    hooks = team.take(modules, optimizers) if team else []
    history = checkpoint.share(history, team) if team else history
    groups = [group for optimizer in optimizers.values() for group in optimizer.param_groups]
    reports: list[dict[str, Tensor]] = []
    started = time.perf_counter()
    with machine.shared() as look_around:
        for index in range(len(history.steps), steps):
            look_around()
            for group in groups if schedule else ():  # the starting rate is kept as torch keeps it
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * schedule(index)
            batch = batches.batch(index, machine.device) if batches is not None else None
            report = _detached(step(team.part(batch) if team else batch, index), machine.device)
            reports.append(team.mean(report) if team else report)
            for key, mean in average.items():
                mean.update(modules[key])
            done, last = index + 1, index + 1 == steps
            validating = validate and (last or (validate_every and done % validate_every == 0))
            saving = last or time.monotonic() - checkpoint.saved_at >= checkpoint_seconds
            if saving or validating or done % 10 == 0:
                history._add(reports)  # waits for the device, so the clock below is honest
                reports.clear()
            history.seconds += time.perf_counter() - started
            if validating:
                with _undisturbed(kept, machine.device):
                    measured = validate(done)
                entry = {"step": done, "seconds": history.seconds, **measured}
                history.validation.append(files.plain_data(entry))
            if saving:
                checkpoint.save(history)
            progress.update(done, history.seconds)
            started = time.perf_counter()
    for hook in hooks:
        hook.remove()
    progress.finish(history)
    return history


def _detached(report: dict[str, Any], device: torch.device) -> dict[str, Tensor]:
    scalars = {k: torch.as_tensor(v, device=device).detach() for k, v in report.items()}
    # copies: the step may reuse the memory of what it returned
    return {k: v.reshape(()).to(torch.float32, copy=True) for k, v in scalars.items()}


@contextmanager
def _undisturbed(modules: dict[str, nn.Module], device: torch.device) -> Iterator[None]:
    """Lend the modules out in eval mode; random states and modes come back as they were."""
    modes = {part: part.training for module in modules.values() for part in module.modules()}
    state = _random_state(device)
    try:
        for part in modes:
            part.training = False
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode
        _set_random_state(state, device)


def _random_state(device: torch.device) -> dict[str, Any]:
    kind, keys, *place = np.random.get_state()
    state = {"numpy": (kind, keys.tolist(), *place), "python": random.getstate()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state | {"torch": torch.get_rng_state()}


def _set_random_state(state: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])


class _Checkpoint:
    """The file of one run. Other settings, data, code or networks have another: so a changed
    setting touches nothing that was trained before, and a corrected one finds its own again."""

    def __init__(
        self, name: str, modules: dict, optimizers: dict, here: Machine, folder: Any, told: tuple
    ) -> None:
        self.name, self.modules, self.optimizers = name, modules, optimizers
        self.device, self.saved_at, self.complained = here.device, time.monotonic(), False
        self.shapes = _shapes([module.state_dict() for module in modules.values()])
        groups = [(type(o), g) for o in optimizers.values() for g in o.param_groups]
        kinds = [[kind.__name__, len(group["params"])] for kind, group in groups]
        text = json.dumps(files.plain_data([*told, here.device.type, self.shapes, kinds]))
        self.stem, digest = re.sub(r"[^\w.+-]", "_", name), files.sha(text.encode())[:8]
        self.path = None if folder is None else Path(folder) / f"{self.stem}.{digest}{ENDING}"

    def save(self, history: History) -> None:
        """Replace the file; a disk that refuses costs a warning, not the training."""
        if self.path is None:
            return
        for name, module in self.modules.items():
            if not all(bool(p.isfinite().all()) for p in module.parameters()):
                what = f"weights of '{name}' not finite at step {len(history.steps)}"
                raise NonFiniteLoss(f"{self.name}: {what}")
        state = {
            **self._state(),
            "random": _random_state(self.device),
            "history": asdict(history),
        }
        torch.save(state, stream := io.BytesIO())
        try:
            files.write_atomic(self.path, stream.getvalue())
        except OSError as problem:
            if not self.complained:
                reason = problem.strerror or problem
                _say(f"{self.name}: no checkpoint ({reason}); training goes on, but make room")
            self.complained = True
        self.saved_at = time.monotonic()

    def restore(self, steps: int, resume: bool) -> History:
        """Load the state and return the history so far; what cannot be used is set aside."""
        if self.path is None or not self.path.exists():
            if self.path and any(self.path.parent.glob(f"{self.stem}.????????{ENDING}")):
                _say(f"{self.name}: other settings, data or code than before: training anew")
            return History(self.name)
        state, why = {}, "is not wanted"
        if resume:
            with suppress(WeightsError, LookupError, TypeError, AttributeError):
                found = read_file(self.path)[0]
                told = [found["modules"][name] for name in self.modules]
                state = found if _shapes(told) == self.shapes and found["history"]["steps"] else {}
            why = f"is past step {steps}" if state else "is damaged"
        done = len(state["history"]["steps"]) if state else math.inf
        if done > steps:
            os.replace(self.path, aside := self.path.with_suffix(".previous.pth"))
            _say(f"{self.name}: the checkpoint {why}; kept as {aside.name}, training anew")
            return History(self.name)
        self._load(state)
        _set_random_state(state["random"], self.device)
        if done < steps:
            _say(f"{self.name}: resumed at step {done} of {steps}")
        return History(**state["history"] | {"resumed_at": done})

    def share(self, history: History, team: Team) -> History:
        """Give the first process's state and history to all."""
        told = team.agree({**self._state(), "history": asdict(history), "done": len(history.steps)})
        self._load(told)
        return History(**told["history"])

    def _state(self) -> dict[str, Any]:
        kinds = {"modules": self.modules, "optimizers": self.optimizers}
        return {
            kind: {k: v.state_dict() for k, v in parts.items()} for kind, parts in kinds.items()
        }

    def _load(self, state: dict[str, Any]) -> None:
        for kind, parts in (("modules", self.modules), ("optimizers", self.optimizers)):
            for name, part in parts.items():
                part.load_state_dict(state[kind][name])


def _shapes(states: list[dict[str, Tensor]]) -> list[list]:
    return [[key, *value.shape] for state in states for key, value in state.items()]


def count_parameters(module: nn.Module) -> float:
    """Return how many millions of trained numbers a network has."""
    return sum(p.numel() for p in module.parameters()) / 1e6


def save_weights(path: str | Path, module: nn.Module, info: dict, half: bool = False) -> None:
    """Write a module's weights and `info` (plain data) as safetensors; half: float16 weights."""
    tensors = module.state_dict()
    if half:  # buffers stay: a running variance can exceed float16
        tensors |= {key: value.half() for key, value in module.named_parameters()}
    # copies: safetensors refuses tied weights
    own = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    files.write_atomic(path, to_safetensors(own, {"info": json.dumps(info)}))


def read_info(path: str | Path) -> dict[str, Any]:
    """Return the `info` that `save_weights` wrote into the file's header."""
    metadata = read_file(path, header_only=True)[1]
    with suppress(KeyError, ValueError):
        if isinstance(info := json.loads(metadata["info"]), dict):
            return info
    raise WeightsError(f"{path}: weights without our info; give a file that a notebook saved")


def load_weights(path: str | Path, module: nn.Module) -> None:
    """Load a safetensors or .pth file into the module: every key and shape must match."""
    found, wanted = read_file(path)[0], module.state_dict()
    for key in wanted | found:
        shapes = [getattr(each.get(key), "shape", None) for each in (found, wanted)]
        # old files of torch do not count the batches that a norm has seen
        if shapes[0] != shapes[1] and (key in found or not key.endswith("num_batches_tracked")):
            what = "{} is {}, not {}".format(key, *(s and tuple(s) for s in shapes))
            raise WeightsError(f"{path}: weights of another network ({what})")
    module.load_state_dict(found, strict=False)


def read_file(path: str | Path, header_only: bool = False) -> tuple[dict[str, Any], dict[str, str]]:
    """Return tensors and metadata of a safetensors or .pth file; no code of either runs."""
    try:
        if Path(path).suffix in (".pth", ".pt"):
            return dict(torch.load(path, map_location="cpu", weights_only=True).items()), {}
        with safe_open(path, "pt") as stream:
            keys = [] if header_only else stream.keys()
            return {key: stream.get_tensor(key).clone() for key in keys}, stream.metadata() or {}
    except Exception as problem:  # torch raises many kinds for a bad file
        reason = f"{type(problem).__name__}: {problem}".splitlines()[0][:120]
        raise WeightsError(f"{path}: no weights; fetch or train it again ({reason})") from problem


def _in_notebook() -> bool:
    return hasattr(getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)(), "kernel")


def _say(text: str) -> None:
    print(text, file=sys.stdout if _in_notebook() else sys.stderr, flush=True)


class _Progress:
    """A line that moves in a notebook, and one that stays: what a run took."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.shown_at, self.handle = label, total, -math.inf, None

    def update(self, done: int, seconds: float) -> None:
        """Show the state after `done` steps, a few times a second at most."""
        if time.monotonic() - self.shown_at >= 0.4 and _in_notebook():
            self.shown_at = time.monotonic()
            left = files.duration(seconds / done * (self.total - done))
            self._show(f"{self.label}: step {done} of {self.total}, {left} left")

    def finish(self, history: History) -> None:
        """Leave one line that says what the run took."""
        done, seconds = len(history.steps), history.seconds
        whole, each = files.duration(seconds), files.duration(seconds / max(done, 1))
        line = f"{self.label}: {done} steps in {whole} ({each} a step)"
        if history.resumed_at is not None:
            line += ", finished before" if history.resumed_at == done else ", resumed"
        self._show(line) if _in_notebook() else _say(line)

    def _show(self, text: str) -> None:
        from IPython.display import display

        if self.handle:
            self.handle.update({"text/plain": text}, raw=True)
        else:
            self.handle = display({"text/plain": text}, raw=True, display_id=True)
