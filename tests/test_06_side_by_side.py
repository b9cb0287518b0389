"""The definitions of notebook 06, and the notebook itself with and without weights and reports."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from colorlib import color, datasets, files, machine, metrics, notebooks, pictures, training

NAME = "06_side_by_side"
page = notebooks.load(NAME)
papers = {name: notebooks.load(name) for name in page.PAPERS}
dcgan = papers[page.DCGAN]
HERE = machine.Machine(torch.device("cpu"), None, False, 1)
RUNS = {"profile": "laptop", "runs": ["overnight", "laptop"], "pairs_data": "pairs", "source": ""}
P = SimpleNamespace(**RUNS, seed=0)
PHOTO = pictures.resize(datasets.photo("things/geometrize_1402"), 48)  # peppers


def pair(name="lemons", rgb=PHOTO, **more):
    return dcgan.make_pair(name, rgb[:, ::-1].copy(), rgb, 48, **more)


def scores(error, low=None, high=None, colour=0.5, n=9):
    ends = [error - 1 if low is None else low, error + 1 if high is None else high]
    return {"delta_e": error, "cf_ratio": colour, "n": n, "ci95": {"delta_e": ends}}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project with our notebooks, no reports and no committed model."""
    monkeypatch.setattr("colorlib.colorize.MODELS", tmp_path / "models")
    (tmp_path / "notebooks").symlink_to(files.root() / "notebooks")
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    return tmp_path


def leave(root, name, stem, module, recipe, profile="laptop", **run):
    """Leave weights as a run does, with its record beside them."""
    folder = root / "reports" / profile / name
    info = {"notebook": name, "row": stem, "image_size": 32, "build": recipe, "data": "flowers"}
    training.save_weights(folder / "weights" / f"{stem}.safetensors", module, info)
    told = {"date": "2026-01-02", "seconds": {stem: 90.0}, "memory_mib": {"host": 2048.0}}
    told |= {"git": {"commit": "abcdef0123", "dirty": False}, "machine": {"cpu": "a processor"}}
    files.write_json(folder / "run.json", told | {"parameters": {"data": "flowers"}} | run)
    files.write_json(folder / "metrics.json", {"data": {"train": 17}})


def leave_unet(root, profile="laptop"):
    paper = papers[page.CGAN]
    recipe = paper.Recipe(width=4, image_size=32)
    model = paper.build_generator(recipe)
    leave(root, page.CGAN, "unet_gan", model, asdict(recipe), profile)


def leave_dcgan(root, place="pairs"):
    recipe = dcgan.Recipe(width=4, image_size=48)
    run = {"parameters": {"data": place}, "seconds": {"dcgan-lemons": 30.0}}
    leave(root, page.DCGAN, "dcgan-lemons", dcgan.Generator(recipe), asdict(recipe), **run)


# --- weights that runs leave -------------------------------------------------------------------


def test_the_first_of_the_runs_that_has_weights_is_taken_with_its_story(root):
    leave_unet(root)
    found, problems = page.find_trained("unet_gan", ["lemons"], P, papers[page.CGAN], HERE)
    assert problems == [] and list(found) == [""] and found[""].profile == "laptop"
    costs = page.costs("unet_gan", found)
    assert costs["training pictures"] == 17 and costs["training, min"] == pytest.approx(1.5)
    assert costs["peak memory, GB"] == pytest.approx(2) and costs["million weights"] > 0
    state = page.state_of("unet_gan", found, [], ["lemons"], P)
    assert state == "weights of the laptop run of 2026-01-02"
    leave_unet(root, profile="overnight")
    found, _ = page.find_trained("unet_gan", [], P, papers[page.CGAN], HERE)
    assert found[""].profile == "overnight"


def test_without_a_run_the_committed_model_paints_with_the_overnight_story(root):
    leave_unet(root, profile="overnight")
    folder = root / "reports" / "overnight" / page.CGAN
    committed = root / "models" / page.CGAN
    committed.parent.mkdir(exist_ok=True)
    (folder / "weights").rename(committed)
    found, problems = page.find_trained("unet_gan", [], P, papers[page.CGAN], HERE)
    assert problems == [] and found[""].profile == "overnight"
    assert page.costs("unet_gan", found)["training pictures"] == 17


def test_weights_of_a_pair_fit_only_the_pairs_of_the_same_place(root):
    leave_dcgan(root, place="my_pairs")
    assert page.find_trained("dcgan", ["lemons"], P, dcgan, HERE) == ({}, [])
    leave_dcgan(root)
    found, _ = page.find_trained("dcgan", ["lemons", "fuji"], P, dcgan, HERE)
    assert list(found) == ["lemons"] and page.training_minutes("dcgan", found) == pytest.approx(0.5)
    state = page.state_of("dcgan", found, [], ["lemons", "fuji"], P)
    command = "python -m colorlib run 02 --profile laptop -p pairs lemons,fuji"
    assert f"for fuji: not run yet: {command}" in state
    own = SimpleNamespace(**vars(P) | {"source": "lemons.png"})  # of your own two no run knows
    assert page.find_trained("dcgan", ["lemons"], own, dcgan, HERE) == ({}, [])
    assert "-p fit True" in page.state_of("dcgan", {}, [], ["lemons"], own)


def test_foreign_or_damaged_weights_are_a_line_not_an_error(root):
    leave_unet(root)
    file = root / "reports" / "laptop" / page.CGAN / "weights" / "unet_gan.safetensors"
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


def test_fitting_trains_only_the_pairs_without_weights():
    asked = []

    def fit(reference, here, lightness, side=0):
        asked.append(lightness.shape[-2:])
        return torch.nn.Linear(1, 1)

    given = {"lemons": page.Trained(None)}
    notebook = SimpleNamespace(fit_reference=fit)
    found = page.fit_missing("dcgan", given, [pair(), pair("fuji")], notebook, HERE)
    assert asked == [(48, 48)] and found["fuji"].profile == "here"
    assert page.state_of("dcgan", found, [], ["fuji"], P).endswith("trained here")


# --- the pictures ------------------------------------------------------------------------------


def test_only_held_out_pictures_are_coloured():
    found = page.load_grounds("scenes,flowers", 32, 3, seed=0)
    assert list(found) == ["scenes", "flowers"]
    for name, (unseen, pool) in found.items():
        everything = datasets.load(name, 32)
        assert len(unseen) == 3 and set(unseen.names) <= set(everything.test.names)
        assert len(pool) == page.POOL
    assert page.may_have_seen({"parameters": {"data": "scenes, things"}}, found, {}) == "none"
    assert notebooks.check_values(page.COLORGAN, {"manner": "paper"})  # the name it has there
    drawn = {"parameters": {"data": "things,scenes", "manner": "paper"}}
    assert page.may_have_seen(drawn, found, {}) == "scenes: its split was another"
    assert "ImageNet" in page.may_have_seen(
        {"parameters": {"data": "scenes"}}, found, {}, "ImageNet"
    )
    home = {"": page.Trained(None, {"data": "things, scenes"})}
    assert [page.at_home(ground, home) for ground in found] == [True, False]


def test_a_pair_whose_place_a_training_shows_is_named():
    kin = page.kin_of([pair("liberty"), pair("lemons"), pair("yours")])
    assert kin == {"scenes": ["liberty"], "things": ["liberty"]}
    with (datasets.embedded() / "credits.tsv").open(encoding="utf-8") as lines:
        shown = {line.split("\t")[0] for line in lines if line.rstrip("\n").endswith("\tliberty")}
    assert shown & set(datasets.load("scenes", 32).train.names)
    seen = page.may_have_seen({"parameters": {"data": "flowers,scenes"}}, [], kin)
    assert seen == "scenes: other photographs of the places of liberty"


def test_your_photos_join_and_a_bad_file_costs_a_line(tmp_path):
    pictures.write(tmp_path / "mine.png", pictures.resize(PHOTO, (40, 60), "squash"))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    pool = np.stack([PHOTO, 255 - PHOTO])
    cases, problems = page.your_cases(str(tmp_path), 32, pool, dcgan.make_pair)
    assert [(c.ground, c.pair.name) for c in cases] == [("your photos", "mine")]
    assert cases[0].pair.target.shape == (32, 32, 3)
    assert len(problems) == 1 and "bad.png" in problems[0]


def test_of_each_ground_as_many_are_chosen_and_evenly():
    cases = [page.Case("one", pair()) for _ in range(11)]
    assert page.choose_shown([*cases, page.Case("two", pair())], most=6) == [0, 5, 10, 11]
    assert page.choose_shown(cases[:1]) == [0]


# --- painting and scoring ----------------------------------------------------------------------


def test_pairs_are_compared_where_every_row_has_coloured_them():
    three = [pair(), pair("fuji"), pair("everest")]
    found = page.score_pairs({"welsh": [PHOTO] * 3, "dcgan": [PHOTO, None, PHOTO]}, three, 0)
    assert list(found) == ["lemons", "everest"]
    found = page.score_pairs({"welsh": [PHOTO] * 3, "dcgan": [PHOTO, None, None]}, three, 0)
    assert list(found) == ["lemons", "fuji", "everest"]  # one pair alone would say nothing


# --- what the page says ------------------------------------------------------------------------


def test_the_star_is_never_for_those_who_were_told():
    errors = {"grey_floor": 12.0, "welsh": 9.0, "levin_hints": 3.0}
    assert page.caption(errors, "welsh") == "9.0 ★"
    assert page.caption(errors, "levin_hints") == "3.0"
    assert page.caption({"welsh": math.nan}, "welsh") == "" == page.caption({}, "dcgan")


def evidence(kind, weight, **rows):
    floors = {"mean_ab": scores(14.0, n=weight), "grey_floor": scores(16.0, n=weight)}
    return page.Evidence(kind, f"{kind} {weight}", floors | rows, weight)


def test_advice_goes_by_what_knows_most_of_the_candidates():
    known = [
        evidence("reference", 11, welsh=scores(9.0, n=11), dcgan=scores(5.0, n=11)),
        evidence("reference", 8, welsh=scores(3.0, n=8), dcgan=scores(9.0, n=8)),
        evidence("reference", 900, welsh=scores(1.0, n=900)),  # knows but one of them
        evidence("reference", 99, welsh=scores(1.0, n=99), dcgan=scores(0.5, n=3)),  # others' pairs
        evidence("own ground", 500, welsh=scores(1.0, n=500), dcgan=scores(2.0, n=500)),
    ]
    rows = ("dcgan", "welsh")
    advice = page.recommend("a reference", rows, ("reference", "own ground"), known)
    assert advice["take"] == "02 DCGAN" and advice["measured on"] == "reference 11 (n = 11)"
    assert advice["not told apart"] == "none" and advice["the nearer floor"] == "mean colour 14.0"
    assert page.recommend("it", rows, ("pictures", "own ground"), known)["take"] == "Welsh"
    assert page.recommend("it", rows, ("pictures",), known)["take"] == "not run yet"
    three = {row: scores(1.0, n=3) for row in ("welsh", "dcgan", "reinhard")}
    known.append(evidence("reference", 3, **three))  # one row more, and too few
    advice = page.recommend("it", (*rows, "reinhard"), ("reference",), known)
    assert advice["measured on"] == "reference 11 (n = 11)"


def test_advice_is_none_where_a_floor_is_nearer_and_claims_no_more_than_intervals():
    dull = evidence("pictures", 9, welsh=scores(14.5), dcgan=scores(30.0))
    advice = page.recommend("it", ("dcgan", "welsh"), ("pictures",), [dull])
    assert advice["take"] == "none" and "Welsh" in advice["nearest"]
    assert "not run yet" not in page.in_words(advice) and ": none; " in page.in_words(advice)
    close = evidence("pictures", 9, welsh=scores(12.0, 10, 14), dcgan=scores(13.5, 11, 16))
    advice = page.recommend("it", ("dcgan", "welsh"), ("pictures",), [close])
    assert advice["not told apart"] == "02 DCGAN, mean colour"
    assert advice["take"] == "Welsh or mean colour", "one colour costs nothing"
    each = {"welsh": np.arange(9.0), "mean_ab": np.arange(9.0) + 1, "dcgan": np.arange(9)[::-1]}
    rows = {row: close.rows[row] | {"each": {"delta_e": errors}} for row, errors in each.items()}
    paired = page.Evidence("pictures", "here", close.rows | rows, 9)
    advice = page.recommend("it", ("dcgan", "welsh"), ("pictures",), [paired])
    assert advice["not told apart"] == "02 DCGAN"  # the mean colour is farther in every picture
    worse = evidence("pictures", 9, welsh=scores(30.0, 29, 31))
    advice = page.recommend("it", ("welsh",), ("pictures",), [worse])
    assert advice["take"] == "none" and advice["not told apart"] == "none, nor was a rival scored"
    few = evidence("pictures", 3, welsh=scores(2.0, n=3), dcgan=scores(30.0, n=3))
    assert "too few" in page.in_words(page.recommend("it", ("welsh",), ("pictures",), [few]))


def test_noise_that_differs_most_is_no_advice():
    found = {
        "noise": {"apart": 30.0, "error": 40.0, "grey": 12.0},
        "together": {"apart": 7.0, "error": 11.0, "grey": 12.0},
    }
    assert page.version_line(found)["take"] == "07 together"
    assert page.version_line({"noise": found["noise"]})["take"] == "none so far"
    same = np.stack([PHOTO, PHOTO])
    judged = page.judge_versions({"lemons": same, "no truth": same}, {"lemons": PHOTO})
    assert judged["apart"] == judged["error"] == 0 and judged["grey"] > 5


# --- the whole notebook ------------------------------------------------------------------------


def run_whole(tmp_path, **given):
    """Run all code cells at smoke; return what they defined."""
    scope = {"__name__": "__main__"}
    smoke = notebooks.profile_parameters(NAME, "smoke") | {"report_dir": str(tmp_path / "report")}
    for cell in notebooks.cells(notebooks.path(NAME)):
        if cell["cell_type"] == "code":
            exec(compile(cell["source"], cell["id"], "exec"), scope)
            scope.update(smoke | given if "parameters" in cell["tags"] else {})
    plt.close("all")
    return scope


def test_without_weights_or_reports_the_page_still_says_something(root, tmp_path, capsys):
    states = run_whole(tmp_path)["states"]
    said = capsys.readouterr().out
    assert "no report is here yet" in said and "nothing can have been seen" in said
    for row in (r for r in page.ROWS if page.METHODS[r].notebook):
        command = f"python -m colorlib run {page.METHODS[row].notebook[:2]} --profile laptop"
        assert states[row].startswith(f"not run yet: {command}")
    results = files.read_json(tmp_path / "report" / "metrics.json")["results"]
    assert set(results) == {*files.FLOORS, "welsh", "reinhard", "levin_hints"}
    shown = {file.stem for file in (tmp_path / "report" / "figures").glob("*.png")}
    assert shown == {"grid_given", "pairs", "pairs_unaided", "trade"}


def test_with_weights_and_a_report_their_rows_stand_in_the_tables(root, tmp_path, capsys):
    leave_unet(root)
    leave_dcgan(root)
    colorgan = papers[page.COLORGAN]
    recipe = colorgan.Recipe(width=4, noise_channels=4, image_size=32)
    leave(root, page.COLORGAN, "colorgan", colorgan.build_model(recipe), asdict(recipe))
    rows = metrics.evaluate({"resnet_gan": PHOTO[None]}, PHOTO[None], (0.0, 0.0)).rows
    told = {"notebook": page.CGAN, "profile": "overnight", "results": rows}
    told |= {"data": {"name": "flowers", "train": 9, "test": 1}}
    files.write_json(root / "reports" / "overnight" / page.CGAN / "metrics.json", told)
    chosen = ["unet_gan", "resnet_gan", "colorgan", "dcgan", "welsh", "levin_hints"]
    scope = run_whole(tmp_path, methods=chosen, pairs=["lemons", "fuji"])
    record = files.read_json(tmp_path / "report" / "metrics.json")
    mine = {"unet_gan", "colorgan", "welsh", "levin_hints"}
    assert record["results"].keys() == {*mine, *files.FLOORS}
    gains = [scores["gain_over_grey"] for scores in record["results"].values()]
    assert gains == sorted(gains, reverse=True)
    of_pairs = record["studies"]["pairs"]["rows"]
    assert of_pairs["dcgan"]["n"] == 1 and of_pairs["welsh"]["n"] == 2
    assert [line["notebook, profile"] for line in scope["own_lines"]] == ["03, overnight"]
    assert {line["weights"]: line["commit"] for line in scope["told"]}["03 U-Net"] == "abcdef01"
    own = color.lightness_of(scope["single_pairs"][0].target)
    for painted in scope["painted"].values():
        assert (color.lightness_of(painted[0]) - own).abs().mean() < 0.5
    assert {"grid", "draws"} <= {f.stem for f in (tmp_path / "report" / "figures").glob("*.png")}
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


def test_the_runner_comes_to_06_after_the_runs_it_reads():
    about = files.read_json(notebooks.path(NAME))["metadata"]["colorlib"]
    assert about["reads"] == list(page.PAPERS)
