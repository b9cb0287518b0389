"""The studies of speed: what is counted, clocked and undone; peers are only borrowed."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from colorlib import evidence, machine, notebooks
from colorlib.batch import speed

NAME = "studies/speed"
studies = notebooks.load(NAME)
HERE = machine.Machine(torch.device("cpu"), None, True, 1)
S = studies.Setting(32, 2, 4)
PAPERS = list(studies.PAPERS)


def parameters(**changes):
    own = {key: known.default for key, known in notebooks.parameters(NAME).items()}
    return SimpleNamespace(**own | notebooks.profile_parameters(NAME, "smoke") | changes)


def test_parameters_limits_and_settings_are_what_the_studies_know():
    own = {key: known.default for key, known in notebooks.parameters(NAME).items()}
    notebooks.check_values(NAME, own)
    assert own["papers"] == PAPERS == list(studies.TITLES)
    assert studies.FAST == speed.SPEED
    assert f"at most {studies.colorize.MOST_PAINTED / 1e6:.0f} megapixels" in studies.GOALS


# ------------------------------------------------------------------------------ jobs


@pytest.mark.parametrize("paper", PAPERS)
def test_a_job_makes_the_lessons_step_and_paints(paper):
    job = studies.Maker(paper, S, 2)(HERE)
    before = [p.detach().clone() for p in job.networks["generator"].parameters()]
    job.step()
    after = job.networks["generator"].parameters()
    assert any(not torch.equal(a, b) for a, b in zip(after, before, strict=True))
    painted = job.paint()
    assert painted.isfinite().all() and painted.shape[-2:] == (job.side, job.side)
    assert job.index == 2 and studies.standing(job) > 0


MADE = []


class Kept(studies.Maker):
    """A maker whose jobs can be looked at afterwards."""

    def __call__(self, here, **changes):
        MADE.append(super().__call__(here, **changes))
        return MADE[-1]


@pytest.mark.parametrize(
    ("paper", "name"),
    [
        *[("03", "fused Adam"), ("03", "frozen critic"), ("04", "fused Adam")],
        *[("04", "frozen critic"), ("04", "one critic pass"), ("05", "frozen critic")],
    ],
)
def test_a_choice_undone_does_the_same_another_way(paper, name):
    build = Kept(paper, S, 2)
    steps = build(HERE).step, studies.CHOICES[name](build, HERE)
    for step in steps:
        torch.manual_seed(1)
        step()
    ours, other = ([*job.networks["generator"].parameters()] for job in MADE[-2:])
    for one, two in zip(ours, other, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-3)


def test_decoding_gives_the_cached_pictures():
    job = studies.Maker("03", S, 4)(HERE)
    cached = job.batches.pictures
    read = studies.Decoding(cached)
    assert torch.equal(read.tensor([0, 2]), cached.tensor([0, 2])) and len(read) == len(cached)
    assert studies.decoded(studies.Maker("03", S, 4), HERE) and not studies.decoded(
        studies.Maker("04", S), HERE
    )


def test_what_does_not_apply_is_none_and_what_does_not_compile_is_said(monkeypatch):
    build = studies.Maker("04", S)
    first = build(HERE).step
    for name in ("bfloat16", "cached uint8", "all threads", "progressive size"):
        assert studies.undo(name, build, first, HERE, 1) is None
    assert studies.undo("frozen critic", build, first, HERE, 1)["median"] > 0

    def fail(build, here):
        raise OSError("no compiler")

    monkeypatch.setitem(studies.CHOICES, "torch.compile", fail)
    assert studies.undo("torch.compile", build, first, HERE, 1) == {"why": "OSError"}
    monkeypatch.setitem(studies.CHOICES, "frozen critic", fail)
    with pytest.raises(OSError):
        studies.undo("frozen critic", build, first, HERE, 1)


# ------------------------------------------------------------------------------ counting and clocks


def test_operations_are_those_of_torchs_counter_also_in_inference():
    net, x = (
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 4, 4, 2)),
        torch.rand(2, 3, 16, 16),
    )
    with FlopCounterMode(display=False) as counter:
        net(x).sum().backward()
    work = studies.work_of(lambda: net(x).sum().backward())
    assert sum(flops for flops, _, _ in work.done) == counter.get_total_flops() > 0
    with FlopCounterMode(display=False) as forward:
        net(x)
    paint = studies.work_of(torch.inference_mode()(lambda: net(x)))
    assert sum(flops for flops, _, _ in paint.done) == forward.get_total_flops()


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("groups", [1, 4])
def test_a_backward_costs_twice_its_forward_in_groups_too(kind, groups):
    net, x = kind(8, 8, 3, groups=groups), torch.rand(2, 8, 9, 9, requires_grad=True)
    forward = sum(flops for flops, _, _ in studies.work_of(lambda: net(x)).done)
    out = net(x).sum()
    assert sum(flops for flops, _, _ in studies.work_of(out.backward).done) == 2 * forward > 0


def test_bytes_are_read_and_written_and_views_cost_nothing():
    a, b = torch.rand(1000), torch.rand(1000)
    assert [size for _, _, size in studies.work_of(lambda: a + b).done] == [3 * 4000]
    assert studies.work_of(lambda: a.view(10, 100).T[2:]).done == []
    assert [size for _, _, size in studies.work_of(lambda: a.add_(b)).done] == [3 * 4000]


def test_held_memory_is_that_of_tensors_alive_at_once():
    a = torch.rand(1000)
    assert studies.work_of(lambda: [a + 1, a + 2, a + 3]).most == 3 * 4000
    assert studies.work_of(lambda: ((a + 1) + 2) + 3).most == 2 * 4000
    assert studies.work_of(lambda: a.mul_(2)).most == 0
    work = studies.work_of(lambda: a + 1)
    assert work.held == 0


def test_the_floor_takes_the_longer_of_arithmetic_and_memory():
    peaks = {torch.float32: 100.0, torch.bfloat16: 200.0, "bytes": 10.0}
    done = [(200, torch.float32, 10), (200, torch.bfloat16, 30), (0, torch.int64, 5)]
    assert studies.floor(done, peaks) == (pytest.approx(3.0), pytest.approx(2 + 3 + 0.5))
    found = studies.Peaks(32, torch.device("cpu")).measure()
    assert found.keys() == {torch.float32, torch.bfloat16, "bytes"} and min(found.values()) > 0


def test_a_clock_counts_what_is_called_inside_once():
    clock = studies.Clock()
    inner = clock.wrap("inner", lambda: time.sleep(0.05))
    outer = clock.wrap("outer", lambda: [time.sleep(0.02), inner(), inner()] and "told")
    assert outer() == "told"
    assert 0.1 <= clock.seconds["inner"] < 0.2 and 0.02 <= clock.seconds["outer"] < 0.1


@pytest.mark.parametrize(
    ("paper", "stages"),
    [("05", {"penalty", "Lab", "VGG", "batch"}), ("04", {"palette", "penalty"})],
)
def test_stages_add_up_and_everything_is_put_back(paper, stages):
    job, backward = studies.Maker(paper, S)(HERE), torch.Tensor.backward
    shares = studies.shares_of(job, 1)
    taken = {stage for stage, share in shares.items() if share > 0}
    assert stages | {"generator", "critic", "backward", "optimizer", "rest"} <= taken
    assert sum(shares.values()) == pytest.approx(1) and min(shares.values()) >= 0
    assert {stage for stage, _, _ in studies.stages_of(job)} <= {*studies.STAGES}
    assert torch.Tensor.backward is backward and "forward" not in vars(job.networks["generator"])


# ------------------------------------------------------------------------------ painting and growth


@pytest.mark.parametrize("size", [(40, 40), (37, 50)])
def test_overlapping_patches_lay_every_pixel_in_its_place(size):
    lesson, y = notebooks.load("01"), torch.rand(1, 1, *size)

    def copies(y):
        return torch.logit(y[..., 4:-4, 4:-4], eps=1e-6).repeat(1, 2, 1, 1)

    painted = studies.paint_overlapping(lesson, copies, y, 24)
    torch.testing.assert_close(painted, y.repeat(1, 2, 1, 1), atol=1e-4, rtol=1e-3)


def test_slopes_and_ends_of_powers():
    curve = [[x, 2.0 * x**1.5, 3.0 * x**2] for x in (1, 10, 100)]
    assert studies.slope(curve, 1) == pytest.approx(1.5) and studies.slope(
        curve, 2
    ) == pytest.approx(2)
    flat = [[x, 1.0, 5.0] for x in (1, 10)]
    (row, other) = studies.breaks(
        {"variants": {"a": {"up": curve, "flat": flat}, "b": {"flat": flat}}, "memory": 3e6}
    )
    assert (row["breaks first"], row["of"], row["at about"]) == ("up", "a minute", "10")
    assert other["at about"] == "nowhere near"


def test_the_pool_grows_with_the_pyramid_and_the_set_does_not_grow_the_batch():
    P = parameters(growth_counts=[50, 500], growth_depths=[1, 2], image_size=96)
    depths = studies.over_depths(P, HERE)
    assert [p[0] for p in depths["a step"]] == [1, 2] and [
        p[0] for p in depths["the pool, once a scale"]
    ] == [2]
    (points,) = studies.over_counts(P, HERE).values()
    assert points[1][2] - points[0][2] == pytest.approx(450 * 32 * 32 * 3 / 2**20)


# ------------------------------------------------------------------------------ processes and peers


def test_a_photo_is_coloured_in_a_process_of_its_own():
    found = studies.in_child("photo_alone(0.02, 'cpu')")
    assert found["megapixels"] == pytest.approx(0.02, rel=0.05)
    assert min(found.values()) > 0


def test_a_child_lacks_what_is_left_out_and_says_why_it_failed(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    with pytest.raises(RuntimeError, match="KeyError: 'OMP_WAIT_POLICY'"):
        studies.in_child("os.environ['OMP_WAIT_POLICY']", ("OMP_WAIT_POLICY",))


GAN_AUTO = {
    "helper.py": "K = 7",
    "model.py": """
from helper import K
class MainModel:
    def __init__(self, net_G): self.net = net_G
    def setup_input(self, data): self.data = data
    def optimize(self): print("noise"); self.net.seen.append((self.data["L"].shape, K))
""",
    "generator_unet.py": """
class Unet:
    def __init__(self, *shape): self.shape, self.seen = shape, []
""",
    "data_loader.py": """
import torch
SIZE = 256
class ColorizationDataset:
    def __init__(self, paths): self.paths = paths
    def __len__(self): return len(self.paths)
    def __getitem__(self, i): return {"L": torch.zeros(1, SIZE, SIZE)}
""",
}
SINGAN = {
    "__init__.py": "",
    "training.py": """
import time, torch
def init_models(opt): return [torch.nn.Conv2d(3, 3, 3) for _ in range(2)]
def train_single_scale(netD, netG, reals, Gs, Zs, in_s, amps, opt):
    assert len(reals) == len(Gs) + 1 == len(Zs) + 1 == len(amps) + 1
    for _ in range(opt.niter):
        netD.zero_grad()
        time.sleep(0.01)
""",
}


def clone(folder, files):
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_peers_are_imported_run_and_forgotten(tmp_path, capsys):
    clone(tmp_path / "GAN_Auto_Colorization" / "GaN_srcs", GAN_AUTO)
    clone(tmp_path / "SinGAN" / "SinGAN", SINGAN)
    (tmp_path / "pytorch-CycleGAN-and-pix2pix").mkdir()
    path = [*sys.path]
    found = studies.run_peers(parameters(peers=str(tmp_path), image_size=32), HERE)["variants"]
    for name in ("ours, organised plainly", "GAN_Auto_Colorization", "SinGAN"):
        assert found[name]["times as long"]["median"] > 0, found
    why = found["pytorch-CycleGAN-and-pix2pix"]["why not"]
    assert why.startswith("ModuleNotFoundError") and str(tmp_path) not in why
    assert sys.path == path
    assert not {"model", "helper", "data_loader", "SinGAN", "SinGAN.training"} & {*sys.modules}
    assert capsys.readouterr().out == ""


def test_singan_times_its_own_updates(tmp_path):
    clone(tmp_path / "SinGAN", SINGAN)
    seconds = studies.singan(tmp_path, studies.Setting(256, 2, 8), torch.device("cpu"))
    assert 0.01 <= seconds() < 0.1


def test_without_clones_only_our_own_way_is_raced():
    found = studies.run_peers(parameters(image_size=32), HERE)["variants"]
    assert {row.get("why not") for row in found.values()} == {None, "not cloned"}


# ------------------------------------------------------------------------------ goals


def test_goals_read_their_numbers_and_say_what_has_not_run(monkeypatch):
    monkeypatch.setattr(studies, "FOUND", dict.fromkeys(("steps", "processes"), None))
    assert {(row["reached"], row["why not more"]) for row in studies.goal_rows()} == {
        (None, "not run yet")
    }
    middle = studies.middle([2.0, 4.0, 9.0])
    step = {"share of the peak": {"median": 0.7}, "share with memory": {"median": 0.9}}
    steps = {paper: {"step": step, "stages": {"batch": 0.05, "backward": 0.6}} for paper in PAPERS}
    photo = {"megapixels": 1.5, "first, s": 1.0, "again, s": 0.5, "MiB over idle": 2000.0}
    found = {
        "steps": {"variants": steps},
        "choices": {
            "variants": {"bfloat16": {"03": middle, "04": None}, "fused Adam": {"03": None}}
        },
        "processes": {
            "variants": {"03": {"neither": {"median": 2.0}}},
            "photos": {"small": photo, "large": photo},
        },
        "peers": {"variants": {name: {"times as long": middle} for name in studies.PEERS}},
        "painting": {"variants": {"all overlaps": {"times as long": middle}}},
    }
    monkeypatch.setattr(studies, "FOUND", found)
    rows = {row["goal"]: row for row in studies.goal_rows()}
    assert len(rows) == len(studies.GOALS.strip().splitlines())
    assert [float(row["reached"]) for row in rows.values()] == [8, 0.7, 4, 0.7, 4, 1, 2000, 20]
    assert [row["enough"] for row in rows.values()] == [
        True,
        False,
        True,
        True,
        False,
        True,
        False,
        True,
    ]
    assert "bfloat16 (4.0 times)" in next(iter(rows.values()))["why not more"]
    assert "memory takes 20%" in rows["03's step, share of the peak"]["why not more"]


def test_turns_are_paired():
    slow = studies.times_as_long(3, lambda: time.sleep(0.01), twice=lambda: time.sleep(0.02))[
        "twice"
    ]
    assert 1.2 < slow["median"] < 3 and slow["low"] <= slow["median"] <= slow["high"]


def test_a_study_that_is_not_asked_for_is_found_and_not_run(monkeypatch):
    monkeypatch.setattr(evidence.record, "newest_study", lambda notebook, name: None)
    P = parameters(studies=[])
    assert (
        studies.show(P, "steps", "Steps", lambda: 1 / 0, list) is None
        and studies.FOUND["steps"] is None
    )
