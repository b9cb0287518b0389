"""One training in two processes on the CPU: the losses and weights of one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn
from toy import Stub

from colorlib import machine, training
from colorlib.batch import run as runner

pytest.importorskip("accelerate")
pytestmark = pytest.mark.slow


PLACES = Path(training.__file__).parents[1], Path(__file__).parent
PATH = os.pathsep.join(map(str, PLACES))


def train(folder: Path | None, steps: int, frozen: bool = True) -> dict:
    """Train a painter and its critic, and return losses and weights."""
    here = machine.prepare("cpu", "fp32", "small", seed=0, threads=1)
    painter = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1))
    painter[1].train(not frozen)
    for weight in painter[1].parameters() if frozen else ():
        weight.requires_grad_(False)
    critic = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 1, 3))
    parts = {"painter": painter, "critic": critic}
    optimizers = {
        key: torch.optim.Adam([p for p in part.parameters() if p.requires_grad], lr=1e-2)
        for key, part in parts.items()
    }

    sizes = set()

    def step(batch: torch.Tensor, index: int) -> dict[str, torch.Tensor]:
        sizes.add(len(batch))
        rgb = batch.float() / 255
        painted = painter(rgb)
        told = (critic(rgb) - 1).square().mean() + critic(painted.detach()).square().mean()
        optimizers["critic"].zero_grad()
        told.backward()
        optimizers["critic"].step()
        pleased = (painted - rgb).abs().mean() + (critic(painted) - 1).square().mean()
        optimizers["painter"].zero_grad()
        pleased.backward()
        optimizers["painter"].step()
        return {"critic": told, "painter": pleased}

    average = {"painter": training.EMA(painter)}
    loop = {"batches": training.Batches(Stub(16), 8, seed=3), "steps": steps, "folder": folder}
    loop |= {"modules": parts, "optimizers": optimizers, "machine": here, "average": average}
    history = training.run("pair", step, **loop)
    weights = {key: [p.tolist() for p in part.parameters()] for key, part in parts.items()}
    told = {"resumed": history.resumed_at, "sizes": [*sizes]}
    return {"losses": history.losses, "weights": weights, **told}


def in_two(folder: Path, steps: int) -> list[tuple[int, str, str]]:
    """Train in two processes, as a launcher starts them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environ = {**os.environ, "PYTHONPATH": PATH, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, __file__, str(folder), str(steps)]
    started = [
        subprocess.Popen(command, env={**environ, "RANK": rank, "LOCAL_RANK": rank}, **pipes)
        for rank in "01"
    ]
    said = [process.communicate(timeout=120) for process in started]
    return [(process.returncode, *each) for process, each in zip(started, said, strict=True)]


def test_two_processes_have_the_losses_and_weights_of_one_also_resumed(tmp_path):
    alone = train(None, 6)
    for steps in (3, 6):  # the second pair goes on where the first stopped
        told = in_two(tmp_path, steps)
        assert [code for code, *_ in told] == [0, 0], told
        first, second = (json.loads(out.splitlines()[-1]) for _, out, _ in told)
        assert first == second and first["sizes"] == [4] and alone["sizes"] == [8]
    assert first["resumed"] == 3 and len(list(tmp_path.iterdir())) == 1
    for key, losses in alone["losses"].items():
        assert first["losses"][key] == pytest.approx(losses, rel=1e-5)
    for key, weights in alone["weights"].items():
        for ours, one in zip(first["weights"][key], weights, strict=True):
            assert torch.allclose(torch.tensor(ours), torch.tensor(one), atol=1e-5)


NOTEBOOK = """
from test_devices import train
told = train(Path(report_dir, "checkpoints"), 3, frozen=rate < 1)
print(json.dumps(told))
"""


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """A notebook that trains in two kernels."""
    cells = [f"%%parameters\n{tiny.PARAMETERS}", tiny.RECORD, NOTEBOOK]
    tiny.write(tmp_path, "01_good", "# Good", *cells)
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", PATH)
    monkeypatch.setenv("COLORLIB_PROCESSES", "2")
    return tmp_path / "reports/laptop"


def test_the_runner_starts_a_kernel_for_each_process(shared):
    [made] = runner.run(["01"])
    assert made.state == "finished", made.note
    told, alone = json.loads(tiny.printed(shared / "01_good").splitlines()[-1]), train(None, 3)
    assert told["sizes"] == [4]
    for key, losses in alone["losses"].items():
        assert told["losses"][key] == pytest.approx(losses, rel=1e-5)
    assert [path.name for path in shared.iterdir()] == ["01_good"]  # nothing of the other is left


def test_a_shared_notebook_that_fails_says_why_and_leaves_no_kernel(shared):
    [failed] = runner.run(["01"], parameters={"rate": "2"})
    assert failed.state == "failed" and "batch norm sees a part of each batch" in failed.note
    assert not [path.name for path in shared.iterdir() if "process" in path.name]


if __name__ == "__main__":
    print(json.dumps(train(Path(sys.argv[1]), int(sys.argv[2]))), flush=True)
    torch.distributed.barrier()  # who left first would end the threads of the other, and so it
    torch.distributed.destroy_process_group()
