"""Studies and verdicts: the numbers, the words, and the one rule that judges."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from colorlib import evidence, figures, record


def gap(mean, low, high, seeds=(0.0,)):
    return {"mean": mean, "low": low, "high": high, "seeds": list(seeds)}


SURE, NOT_SURE = gap(-1, -2, -0.5, [-1, -1, -1]), gap(-1, -2, 0.1, [-1, -1, -1])
PSNR_UP, PSNR_DOWN = gap(0.5, 0.1, 0.9), gap(-0.5, -0.9, -0.1)


def study(**more):
    row = {"gain_over_grey": 1.0, "cf_ratio": 0.5, "delta_e": 9.0}
    variants = {
        "all terms": row | {"delta_e_paired": gap(0, 0, 0, [0, 0])},
        "without L1, plain": row
        | {"delta_e_paired": gap(1.5, 0.5, 2.5, [1.25, 1.75]), "seconds": 3.0},
    }
    return {"variants": variants, "origin": "evening run of 2026-01-02", "size": 32} | more


def test_paired_differences_leave_grey_pictures_out():
    nan = float("nan")
    ours = np.array([[2.0, nan, 4.0], [4.0, nan, 6.0]])
    found = evidence.paired(ours, np.array([[1.0, nan, 1.0]] * 2))
    assert found["mean"] == 3.0 and found["seeds"] == [2.0, 4.0]
    assert found["low"] <= 3.0 <= found["high"]


def test_one_seed_may_come_as_a_plain_row():
    assert evidence.paired([3.0, 5.0], [1.0, 1.0])["seeds"] == [3.0]


def test_a_difference_in_words_and_turned():
    assert evidence.in_words(gap(1, -0.5, 2), " dB") == "+1.00 dB [-0.50, +2.00]"
    assert evidence.turned(gap(1, -0.5, 2, [1, 3])) == gap(-1, -2, 0.5, [-1, -3])
    assert evidence.turned(None) is None


@pytest.mark.parametrize(
    ("delta_e", "psnr", "many", "verdict"),
    [
        (SURE, PSNR_UP, None, "held"),
        (SURE, PSNR_DOWN, None, "partly"),  # the two measures disagree
        (NOT_SURE, PSNR_UP, None, "did not hold"),  # the mean alone proves nothing
        (gap(-1, -2, -0.5, [-3, -1, 1]), PSNR_UP, None, "partly"),  # a training disagrees
        (gap(-1, -2, -0.5, [-1, -1]), PSNR_UP, None, "partly"),  # two trainings are too few
        (gap(-1, -2, -0.5, [-1]), PSNR_UP, True, "held"),  # many pairs, each trained for itself
        (SURE, PSNR_UP, False, "partly"),
        (None, None, None, "not run yet"),
    ],
)
def test_nearer_needs_the_interval_then_the_trainings(delta_e, psnr, many, verdict):
    assert evidence.nearer(delta_e, psnr, many) == verdict
    other_way = evidence.turned(delta_e), evidence.turned(psnr)
    assert evidence.farther(*other_way, many) == verdict


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        ((None, True, True), "not run yet"),
        ((1, False, True), "did not hold"),
        ((1, True, False), "partly"),
        ((1, True, True), "held"),
    ],
)
def test_judge(case, verdict):
    assert evidence.judge(*case) == verdict
    assert verdict in record.VERDICTS


def test_a_variant_is_found_by_name_or_by_its_beginning():
    rows = study()["variants"]
    assert evidence.variant(study(), "without L1") == rows["without L1, plain"]
    assert evidence.variant(study(), "all terms") == rows["all terms"]
    assert evidence.variant(study(), "other") is None and evidence.variant(None, "all") is None


def test_the_effect_of_a_variant_in_words():
    run = study()
    expected = "CIEDE2000 +1.50 [+0.50, +2.50] (evening run of 2026-01-02)"
    assert evidence.effect(run, "without L1") == expected
    assert evidence.effect(run, "all") == "what is done here"
    assert evidence.effect(run, "other") == "no such variant in that run"
    assert evidence.effect(None, "all") == "not run yet"


def test_a_study_is_run_if_asked_for_and_read_otherwise(monkeypatch):
    kept = study(origin="evening", date="2026-01-02")
    monkeypatch.setattr(record, "newest_study", lambda notebook, name: kept)
    asked = SimpleNamespace(studies=["losses"], profile="laptop")
    ran = evidence.find("nb", "losses", lambda: {"size": 64}, asked)
    assert ran == {"size": 64, "origin": "this run, laptop profile"}
    assert evidence.find("nb", "losses", lambda: None, asked) is None
    read = evidence.find("nb", "other", lambda: pytest.fail("not asked for"), asked)
    assert read["origin"] == "evening run of 2026-01-02" and read["size"] == 32


@pytest.fixture
def tables(monkeypatch):
    shown = []
    keep = lambda rows, caption, name=None: shown.append((rows, caption, name))  # noqa: E731
    monkeypatch.setattr(figures, "table", keep)
    return shown


def test_the_table_of_a_study(tables):
    about = lambda s: f"{s['size']} px"  # noqa: E731
    evidence.show("nb", "losses", study(), "Terms", about, {"seconds": "s a step"})
    ((rows, caption, name),) = tables
    assert caption == "Terms (32 px; evening run of 2026-01-02)" and name == "losses"
    assert rows[0]["each seed"] == "–" and "s a step" not in rows[0]
    assert rows[1]["CIEDE2000 against the first"] == "+1.50 [+0.50, +2.50]"
    assert rows[1]["each seed"] == "+1.25, +1.75" and rows[1]["s a step"] == 3.0


def test_a_missing_study_says_how_to_get_it(tables, capsys):
    evidence.show("nb", "losses", None, "Terms", str)
    assert not tables
    said = capsys.readouterr().out
    assert said == "Terms: not run yet. Run it: python -m colorlib run nb --profile evening\n"


def test_open_questions_become_a_table(tables):
    lines = "\nX-01 | unstated | {size} px | small | {weight}\nX-02 | a | b | c | d\n"
    evidence.open_questions(lines, {"size": 64, "weight": "little"}, "Open")
    ((rows, caption, _),) = tables
    assert caption == "Open" and len(rows) == 2
    assert rows[0]["we do"] == "64 px" and rows[0]["how much it matters"] == "little"
    with pytest.raises(ValueError, match=r"shorter|argument"):
        evidence.open_questions("X-03 | too | few", {}, "Open")


def test_claims_that_are_not_testable_give_their_reason():
    (claim,) = evidence.not_testable({"Users like it": "needs users"})
    assert claim["verdict"] == "not testable here" and claim["test"] == "needs users"


def test_where_a_study_was_run():
    assert evidence.source(study()) == " [evening run of 2026-01-02]"
    assert evidence.source(None) == ""
