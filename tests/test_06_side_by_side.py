"""The definitions of notebook 06, and the notebook itself where runs have left weights."""

from __future__ import annotations

import ast
import math
import re
import shutil
from dataclasses import asdict
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.text import Text

from colorlib import color, datasets, files, machine, metrics, notebooks, pictures, training

NAME = "06_side_by_side"
page = notebooks.load(NAME)
papers = {name: notebooks.load(name) for name in page.PAPERS}
dcgan = papers[page.DCGAN]
HERE = machine.Machine(torch.device("cpu"), None, False, 1)
P = SimpleNamespace(
    **{"profile": "laptop", "pairs_data": "photos", "pairs": ["flower"], "source": ""},
    **{"runs": ["laptop", "evening"], "seed": 0},
)
PHOTO = pictures.resize(datasets.photo("coffee"), 48)


def pair(name="coffee", rgb=PHOTO):
    return dcgan.make_pair(name, rgb[:, ::-1].copy(), rgb, 48)


def scores(error, low=None, high=None, colour=0.5, n=9):
    ends = [error - 1 if low is None else low, error + 1 if high is None else high]
    return {"delta_e": error, "cf_ratio": colour, "n": n, "ci95": {"delta_e": ends}}


# --- weights that runs leave -------------------------------------------------------------------


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project with our notebooks and no reports."""
    (tmp_path / "notebooks").symlink_to(files.root() / "notebooks")
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    return tmp_path


def leave(root, name, stem, module, build, profile="laptop", date="2026-01-02", **run):
    """Leave weights as a run does, with its record beside them."""
    folder = root / "reports" / profile / name
    info = {"notebook": name, "row": stem, "image_size": 32, "build": build, "data": "garden"}
    training.save_weights(folder / "weights" / f"{stem}.safetensors", module, info)
    told = {"date": date, "seconds": {stem: 90.0}, "memory_mib": {"host": 2048.0}, "seed": 0}
    told |= {"git": {"commit": "abcdef0123", "dirty": False}, "machine": {"cpu": "a processor"}}
    files.write_json(folder / "run.json", told | {"parameters": {"data": "garden"}} | run)
    files.write_json(folder / "metrics.json", {"data": {"train": 17}})


def leave_unet(root, **more):
    paper = papers[page.CGAN]
    recipe = paper.Recipe(width=4, image_size=32)
    leave(root, page.CGAN, "unet_gan", paper.build_generator(recipe), asdict(recipe), **more)


def leave_dcgan(root, place="photos", **more):
    recipe = dcgan.Recipe(width=4, critic_width=4, image_size=48)
    model = dcgan.build_generator(recipe)
    run = {"parameters": {"data": place}, "seconds": {"coffee": 30.0}}
    leave(root, page.DCGAN, "dcgan-coffee", model, asdict(recipe), **run | more)


def test_the_first_of_the_runs_that_has_weights_is_taken(root):
    leave_unet(root, profile="evening", date="2026-02-03")
    method = page.METHODS["unet_gan"]
    found = page.find_weights(method, "", P.runs, bool)
    assert found.parts[-4] == "evening"
    leave_unet(root)
    assert page.find_weights(method, "", P.runs, bool).parts[-4] == "laptop"
    assert page.find_weights(method, "", ["evening"], bool).parts[-4] == "evening"
    assert page.find_weights(page.METHODS["resnet_gan"], "", P.runs, bool) is None


def test_weights_are_read_with_the_story_of_their_run(root):
    leave_unet(root)
    found, problems = page.find_trained("unet_gan", ["coffee"], P, papers[page.CGAN], HERE)
    assert problems == [] and list(found) == [""]
    costs = page.costs("unet_gan", found)
    assert costs["training pictures"] == 17 and costs["training, min"] == pytest.approx(1.5)
    assert costs["peak memory, GB"] == pytest.approx(2) and costs["million weights"] > 0
    assert costs["learned from, or given"] == "garden, laptop"
    state = page.state_of("unet_gan", found, [], ["coffee"], P)
    assert state == "weights of the laptop run of 2026-01-02"


def test_weights_of_a_pair_fit_only_the_pairs_of_the_same_place(root):
    leave_dcgan(root, place="pairs")
    assert page.find_trained("dcgan", ["coffee"], P, dcgan, HERE) == ({}, [])
    leave_dcgan(root, place="photos")
    found, _ = page.find_trained("dcgan", ["coffee", "flower"], P, dcgan, HERE)
    assert list(found) == ["coffee"] and page.training_minutes("dcgan", found) == pytest.approx(0.5)
    state = page.state_of("dcgan", found, [], ["coffee", "flower"], P)
    assert "for flower: not run yet: python -m colorlib run 02" in state


def test_foreign_or_damaged_weights_are_a_line_not_an_error(root):
    leave_unet(root)
    file = root / "reports" / "laptop" / page.CGAN / "weights" / "unet_gan.safetensors"
    shutil.copy(file, file.with_name("resnet_gan.safetensors"))
    shutil.copytree(file.parents[1], root / "reports" / "laptop" / page.COLORGAN)
    other = root / "reports" / "laptop" / page.COLORGAN / "weights"
    shutil.copy(file, other / "colorgan.safetensors")
    file.write_bytes(file.read_bytes()[:2000])
    for row in ("unet_gan", "colorgan"):
        notebook = papers[page.METHODS[row].notebook]
        found, problems = page.find_trained(row, [], P, notebook, HERE)
        assert found == {} and len(problems) == 1
        state = page.state_of(row, found, problems, [], P)
        assert "not run yet: python -m colorlib run" in state and problems[0] in state


def test_the_command_asks_for_pairs_that_the_usual_run_does_not_make():
    method = page.METHODS["dcgan"]
    assert page.command_for(method, P) == "python -m colorlib run 02 --profile laptop"
    other = SimpleNamespace(**vars(P) | {"profile": "smoke", "pairs": ["china"]})
    usual = notebooks.parameters(page.DCGAN)["pairs"].default
    assert page.command_for(method, other).endswith(f"-p pairs {','.join([*usual, 'china'])}")
    changed = {"profile": "evening", "pairs_data": "my pairs", "pairs": ["a", "b"]}
    own = SimpleNamespace(**vars(P) | changed)
    assert page.command_for(method, own).endswith(
        "--profile evening -p data 'my pairs' -p pairs a,b"
    )
    single = page.command_for(page.METHODS["colorgan"], own)
    assert single == "python -m colorlib run 05 --profile evening"


def test_your_own_two_pictures_have_weights_of_no_run(root):
    leave_dcgan(root)
    own = SimpleNamespace(**vars(P) | {"source": "coffee.png"})
    assert page.find_trained("dcgan", ["coffee"], own, dcgan, HERE) == ({}, [])
    assert "-p fit True" in page.state_of("dcgan", {}, [], ["coffee"], own)


@pytest.mark.parametrize("sees_target", [True, False])
def test_fitting_trains_only_the_pairs_without_weights(sees_target):
    asked = []

    def with_target(reference, here, lightness, side=0):
        asked.append(lightness.shape[-2:])
        return torch.nn.Linear(1, 1)

    def without(reference, here, side=0):
        asked.append(reference.shape[:2])
        return torch.nn.Linear(1, 1)

    notebook = SimpleNamespace(fit_reference=with_target if sees_target else without)
    known = page.Trained(None)
    found = page.fit_missing("dcgan", {"coffee": known}, [pair(), pair("flower")], notebook, HERE)
    assert found["coffee"] is known and found["flower"].profile == "here"
    assert asked == [(48, 48)] and page.training_minutes("dcgan", found) >= 0
    assert page.state_of("dcgan", found, [], ["flower"], P).endswith("trained here")


# --- the pictures ------------------------------------------------------------------------------


def test_no_training_sees_the_photos_that_are_coloured():
    unseen, pool = page.whole_photos(32, seed=0)
    trained = page.trained_photos()
    names = {name.removeprefix("photos/").removesuffix("-00") for name in unseen.names}
    assert names and not names & trained and not any(name.endswith("_right") for name in names)
    assert len(pool) == len({name for name in trained if not name.endswith("_right")})


def test_the_garden_is_one_that_no_run_draws():
    ours, pool = page.new_garden("flowers", 32, 3, seed=0)
    runs = datasets.load("garden", 32, count=30, seed=0)
    assert len(ours) == 3 and len(pool) == page.POOL
    assert not set(ours.digests) & set(runs.digests)
    assert not any(np.array_equal(picture, other) for picture in ours.pictures for other in pool)


def test_the_reference_is_the_picture_whose_lightness_is_most_alike():
    random = np.random.default_rng(0)
    dark, light = (random.integers(low, low + 60, (16, 16, 3), np.uint8) for low in (0, 180))
    wanted = random.integers(10, 70, (16, 16, 3), np.uint8)
    assert page.most_alike(wanted, np.stack([light, dark])) is not light
    assert np.array_equal(page.most_alike(wanted, np.stack([light, dark])), dark)


def test_your_photos_join_and_a_bad_file_costs_a_line(tmp_path):
    pictures.write(tmp_path / "mine.png", pictures.resize(PHOTO, (40, 60), "squash"))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    pool = np.stack([PHOTO, 255 - PHOTO])
    cases, problems = page.your_cases(str(tmp_path), 32, pool, dcgan.make_pair)
    assert [(c.ground, c.pair.name) for c in cases] == [("your photos", "mine")]
    assert cases[0].pair.target.shape == (32, 32, 3)
    assert len(problems) == 1 and "bad.png" in problems[0]
    assert page.your_cases("", 32, pool, dcgan.make_pair) == ([], [])


def test_only_pictures_that_may_be_shown_are_chosen():
    hidden = dcgan.make_pair("b", PHOTO, PHOTO, 48, shown=False)
    cases = [page.Case("one", p) for p in (pair(), hidden, *[pair()] * 9)]
    cases += [page.Case("two", pair())]
    chosen = page.choose_shown(cases, most=6)
    assert chosen == [0, 5, 10, 11]
    assert page.choose_shown([page.Case("one", hidden)]) == []


# --- painting and scoring ----------------------------------------------------------------------


@pytest.mark.parametrize("row", ["welsh", "reinhard", "levin_hints"])
def test_a_classic_keeps_the_targets_lightness(row):
    painted = page.paint_classic(dcgan, row, 20, 0, pair())
    light, own = color.lightness_of(painted), color.lightness_of(PHOTO)
    assert painted.shape == PHOTO.shape and (light - own).abs().max() < 1.0
    assert metrics.mean_chroma(painted[None])[0] > 3


def test_more_dabs_bring_levin_nearer():
    errors = [
        metrics.ciede2000(page.paint_classic(dcgan, "levin_hints", n, 0, pair())[None], PHOTO[None])
        for n in (2, 20, 200)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_trained_models_paint_and_pairs_without_weights_are_left_out(root):
    leave_unet(root)
    leave_dcgan(root)
    trained = {}
    for row in ("unet_gan", "dcgan", "colorgan"):
        notebook = papers[page.METHODS[row].notebook]
        trained[row], _ = page.find_trained(row, ["coffee", "flower"], P, notebook, HERE)
    asked = SimpleNamespace(hints=5, seed=0)
    rows = ["unet_gan", "dcgan", "colorgan", "welsh"]
    painters = page.painters_for(rows, trained, papers, asked, HERE)
    painted, seconds = page.paint_all(painters, [pair(), pair("flower")])
    assert set(painted) == {"unet_gan", "dcgan", "welsh"} == set(seconds)
    assert painted["dcgan"][0] is not None and painted["dcgan"][1] is None
    for results in painted.values():
        light = color.lightness_of(results[0]) - color.lightness_of(PHOTO)
        assert light.abs().mean() < 0.5

    rows, errors = page.score_pairs(painted, [pair(), pair("flower")], 0, None)
    assert rows["dcgan"]["n"] == 1 and rows["unet_gan"]["n"] == 2 == rows["grey_floor"]["n"]
    assert "dcgan" in errors["coffee"] and "dcgan" not in errors["flower"]
    line = page.result_table({"dcgan": rows["dcgan"]}, trained, seconds, 2)[0]
    assert line["method"] == "02 DCGAN (1 of 2)" and line["training pictures"] == 1


def test_lpips_gets_its_mean_and_interval():
    cases = [page.Case("one", pair()), page.Case("one", pair("other", 255 - PHOTO))]
    painted = {"welsh": [case.pair.target for case in cases]}

    def distance(predicted, truth):
        return np.arange(len(truth), dtype=float)

    found = page.score_singles(painted, cases, PHOTO[None], 0, distance)
    assert found.rows["welsh"]["lpips"] == 0.5 and found.rows["welsh"]["ci95"]["lpips"] == [0, 1]
    assert "lpips" not in found.rows["grey_floor"]
    rows, _ = page.score_pairs(painted, [case.pair for case in cases], 0, distance)
    assert rows["welsh"]["lpips"] == 0


def test_versions_that_are_equal_differ_by_nothing():
    versions = page.draw_versions(lambda pair, seed: PHOTO, pair(), 3)
    assert versions.shape == (3, *PHOTO.shape) and page.difference(versions) == 0
    dimmed = np.stack([PHOTO, PHOTO // 2])
    assert page.difference(dimmed) == metrics.ciede2000(dimmed[:1], dimmed[1:])[0]
    assert page.draw_versions(lambda pair, seed: None, pair(), 3) is None
    can = {name[:2] for name, notebook in papers.items() if page.can_draw(notebook)}
    assert can == {"04", "05"}


# --- what the page says ------------------------------------------------------------------------


def test_the_star_is_never_for_those_who_were_told():
    errors = {"grey_floor": 12.0, "welsh": 9.0, "levin_hints": 3.0}
    assert page.nearest_of(errors) == "welsh"
    assert page.caption(errors, "welsh") == "9.0 ★"
    assert page.caption(errors, "levin_hints") == "3.0"
    assert page.caption({"welsh": math.nan}, "welsh") == "" == page.caption({}, "dcgan")


def test_a_training_on_our_pictures_is_told():
    def seen(names=("coffee", "china"), **parameters):
        run = {"parameters": {"data": "garden,photos", "seed": 0} | parameters}
        return page.may_have_seen(run, ["drawn flowers", "photos"], names, P)

    assert seen() == "crops of the pairs coffee"  # china is in the test part
    assert seen(data="garden") == ""
    assert "same seed" in seen(data="garden", seed=page.UNUSED_SEED)
    assert "photos: its split was another" in seen(split="paper")
    one = page.Trained(None, {"data": "garden"}, {"parameters": {"data": "garden", "seed": 0}})
    (line,) = page.disclosure("unet_gan", {"": one}, ["drawn flowers"], [], P)
    assert line["of our pictures it may have seen"] == "none"
    both = page.disclosure("dcgan", {"coffee": one, "flower": one}, [], [], P)
    assert (
        len(both) == 1
        and "coffee" in both[0]["learned from"]
        and "flower" in both[0]["learned from"]
    )


def test_home_is_the_kind_of_picture_that_was_learned():
    found = {"": page.Trained(None, {"data": "garden,photos"})}
    homes = ("drawn flowers", "drawn landscapes", "photos", "scenes")
    assert [page.at_home(g, "colorgan", found) for g in homes] == [True, False, True, False]
    assert [page.at_home(g, "patchwise", found) for g in homes] == [False, True, True, False]
    assert not page.at_home("photos", "welsh", {})


def evidence(kind, weight, **rows):
    floors = {"mean_ab": scores(14.0, n=weight), "grey_floor": scores(16.0, n=weight)}
    return page.Evidence(kind, f"{kind} {weight}", floors | rows, weight)


def test_advice_takes_the_first_kind_that_can_tell_and_there_the_most_pictures():
    known = [
        evidence("reference", 2, welsh=scores(3.0, n=2), dcgan=scores(9.0, n=2)),
        evidence("reference", 11, welsh=scores(9.0, n=11), dcgan=scores(5.0, n=11)),
        evidence("own ground", 500, welsh=scores(1.0), dcgan=scores(2.0)),
        evidence("reference", 900, welsh=scores(1.0)),  # knows but one of them
    ]
    rows = ("dcgan", "welsh")
    advice = page.recommend("a reference", rows, ("reference", "own ground"), known)
    assert advice["take"] == "02 DCGAN" and "reference 11 (n = 11)" in advice["measured on"]
    assert advice["not told apart"] == "none" and advice["the nearer floor"] == "mean colour 14.0"
    assert page.in_words(advice) == "- a reference: 02 DCGAN (5.0, 9.0 nearer than mean colour)"
    other = page.recommend("a reference", rows, ("pictures", "own ground"), known)
    assert other["take"] == "Welsh"
    nothing = page.recommend("a reference", rows, ("pictures",), known)
    assert nothing == {"you have": "a reference", "take": "not run yet"}
    assert "not run yet" in page.in_words(nothing)


def test_advice_does_not_claim_what_the_intervals_do_not():
    close = evidence("pictures", 9, welsh=scores(9.0, 7, 11), dcgan=scores(10.5, 8, 13))
    advice = page.recommend("it", ("dcgan", "welsh"), ("pictures",), [close])
    assert advice["take"] == "Welsh" and advice["not told apart"] == "02 DCGAN"
    dull = evidence("pictures", 9, welsh=scores(14.0), dcgan=scores(30.0))
    said = page.in_words(page.recommend("it", ("dcgan", "welsh"), ("pictures",), [dull]))
    assert "no nearer than mean colour" in said
    few = evidence("pictures", 9, welsh=scores(9.0, n=3), dcgan=scores(30.0, n=3))
    advice = page.recommend("it", ("dcgan", "welsh"), ("pictures",), [few])
    assert advice["the nearer floor"] is None and "nearer" not in page.in_words(advice)


def test_versions_are_advised_by_what_an_eye_can_see():
    tables = ({"colorgan": scores(12.0)}, {"colorgan": scores(3.0), "two_unpaired": scores(19.0)})
    seen = page.version_line({"colorgan": 0.3, "two_unpaired": 4.0}, tables)
    assert seen["take"] == "04 two pictures"
    assert seen["measured on"].endswith("apart (visible), each 19.0 from the truth")
    hidden = page.version_line({"colorgan": 0.3}, tables)
    assert hidden["take"] == "none so far"
    assert "hardly visible" in hidden["measured on"] and "each 12.0" in hidden["measured on"]
    assert page.version_line({}, tables)["take"] == "not run yet"


def test_the_reports_in_git_speak_for_their_own_ground():
    reports = page.read_reports(page.PAPERS)
    lines = [line for found, run in reports if (line := page.own_ground_line(found, run))]
    assert len(lines) == len(reports) > 0
    for line, (found, _) in zip(lines, reports, strict=True):
        main = found["results"][notebooks.main_row(found["notebook"])]
        assert line["CIEDE2000"].startswith(f"{main['delta_e']:.1f} [")
    gathered = page.gather_evidence({}, {}, reports)
    assert {e.kind for e in gathered} <= {"reference", "own ground"}
    assert [e.rows for e in gathered] == [found["results"] for found, _ in reports]


def test_labels_of_the_trade_do_not_cover_each_other():
    fig, axes = plt.subplots(figsize=(5, 4))
    rows = {row: scores(9 + 0.01 * i) for i, row in enumerate(page.ORDER)}
    page.trade_panel(axes, rows, "crowded")
    fig.canvas.draw()
    boxes = [Text.get_window_extent(label) for label in axes.texts]  # without its line
    heights = sorted(box.y0 for box in boxes)
    assert len(boxes) == len(rows)
    assert min(b - a for a, b in pairwise(heights)) > 10
    plt.close(fig)


# --- the whole notebook ------------------------------------------------------------------------


def run_whole(tmp_path, **given):
    """Run all code cells at smoke; return what they defined."""
    values = notebooks.parameters(NAME)
    scope = {"__name__": "__main__"}
    smoke = notebooks_yaml("smoke") | {"report_dir": str(tmp_path / "report")} | given
    for cell in notebooks.cells(notebooks.path(NAME)):
        if cell["cell_type"] == "code":
            exec(compile(cell["source"], cell["id"], "exec"), scope)
            if "parameters" in cell["tags"]:
                assert smoke.keys() <= values.keys()
                scope.update(smoke)
    plt.close("all")
    return scope


def notebooks_yaml(profile):
    import yaml

    file = files.root() / "notebooks" / "params" / profile / f"{NAME}.yml"
    return yaml.safe_load(file.read_text())


def test_without_any_weights_the_page_still_says_something(root, tmp_path, capsys):
    states = run_whole(tmp_path)["states"]
    said = capsys.readouterr().out
    assert "no report is here yet" in said and "nothing can have been seen" in said
    for row in (r for r in page.ROWS if page.METHODS[r].notebook):
        command = f"python -m colorlib run {page.METHODS[row].notebook[:2]} --profile laptop"
        assert states[row].startswith(f"not run yet: {command}")
    results = files.read_json(tmp_path / "report" / "metrics.json")["results"]
    assert set(results) == {*files.FLOORS, "welsh", "reinhard", "levin_hints"}
    shown = {file.stem for file in (tmp_path / "report" / "figures").glob("*.png")}
    assert shown == {"grid", "pairs", "pairs_unaided", "trade"}


def test_with_weights_their_rows_stand_in_every_table(root, tmp_path, capsys):
    leave_unet(root)
    colorgan = papers[page.COLORGAN]
    recipe = colorgan.Recipe(width=4, noise_channels=4, feature_channels=32, image_size=32)
    leave(root, page.COLORGAN, "colorgan", colorgan.build_model(recipe), asdict(recipe))
    patchwise = papers[page.PATCHWISE]
    recipe = patchwise.Recipe(width=4, image_size=48)
    leave(root, page.PATCHWISE, "patchwise", patchwise.build_model(recipe), asdict(recipe))
    leave_dcgan(root)
    chosen = [row for row in page.ROWS if row not in ("reinhard", "resnet_gan")]
    run_whole(tmp_path, pairs=["coffee"], methods=chosen)
    record = files.read_json(tmp_path / "report" / "metrics.json")
    mine = {"patchwise", "patchwise_refined", "unet_gan", "colorgan", "welsh", "levin_hints"}
    assert record["results"].keys() == {*mine, *files.FLOORS}
    assert "dcgan" in record["studies"]["pairs"]["rows"] and "dcgan" not in record["results"]
    assert set(record["studies"]["versions"]) == {"colorgan"}
    gains = [scores["gain_over_grey"] for scores in record["results"].values()]
    assert gains == sorted(gains, reverse=True)
    run = files.read_json(tmp_path / "report" / "run.json")
    told = {line["weights"]: line for line in run["extra"]["weights"]}
    assert told["03 U-Net"]["commit"] == "abcdef01"
    assert (tmp_path / "report" / "figures" / "draws.png").is_file()
    assert "05 ColorGAN: two of 2 versions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"methods": ["wels"]}, "did you mean 'welsh'"),
        ({"source": "mine.png"}, "source and target belong together"),
        ({"pairs": ["a.png,b.png"]}, "as source and target"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(tmp_path, given, complaint):
    with pytest.raises(notebooks.ParameterError, match=complaint):
        run_whole(tmp_path, **given)
    assert not (tmp_path / "report").exists()


# --- the contract, as far as it holds 06 -------------------------------------------------------


def test_define_cells_only_define():
    for cell in notebooks.cells(notebooks.path(NAME)):
        if "define" in cell["tags"]:
            for node in ast.parse(cell["source"]).body:
                names = node.targets if isinstance(node, ast.Assign) else []
                constant = bool(names) and all(name.id.isupper() for name in names)
                kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
                assert constant or isinstance(node, kinds), ast.unparse(node)[:80]


def test_the_runner_comes_to_06_after_the_runs_it_reads():
    from colorlib.reproduce import tasks

    assert tasks.turn(NAME) > max(tasks.turn(name) for name in page.PAPERS)
    assert {name[:2] for name in page.PAPERS} == set(tasks.READS["06"])


def exercises():
    cells = notebooks.cells(notebooks.path(NAME))
    (source,) = (c["source"] for c in cells if c["source"].startswith("## Exercises"))
    return re.split(r"^\d+\. ", source, flags=re.M)[1:]


@pytest.mark.parametrize("number", range(len(exercises())))
def test_the_solution_of_an_exercise_runs(number, capsys):
    (source,) = re.findall(r"```python\n(.*?)```", exercises()[number], re.S)
    indent = re.match(r" *", source)[0]
    scope = dict(vars(page))
    exec(compile(re.sub(f"^{indent}", "", source, flags=re.M), "solution", "exec"), scope)
    said = capsys.readouterr().out
    if number == 1:
        assert scope["levin"] <= scope["welsh"] and 1 < scope["dabs"] < 1000
    if number == 2:
        assert said == "Reinhard -> 02 DCGAN\n"
    assert said.strip()


def test_exercises_are_graded_and_begin_with_five_minutes():
    found = [re.match(r"\*\*(Warm-up|Change|Extend) \(([^)]+)\)\.\*\*", e) for e in exercises()]
    assert [m[1] for m in found] == ["Warm-up", "Change", "Change", "Extend"]
    assert found[0][2] == "five minutes"
