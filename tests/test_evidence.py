"""Studies and verdicts: the numbers, the words, and the one rule that judges."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tiny

from colorlib import bench, evidence, figures, record
from colorlib.evidence import Claim


def gap(mean, low, high, seeds=(0.0,), **more):
    return {"mean": mean, "low": low, "high": high, "seeds": list(seeds), **more}


SURE = gap(-1, -2, -0.5, [-1, -1, -1])
UP, DOWN = gap(0.5, 0.1, 0.9), gap(-0.5, -0.9, -0.1)


def turned(found):
    ends = {"mean": -found["mean"], "low": -found["high"], "high": -found["low"]}
    return found | ends | {"seeds": [-each for each in found["seeds"]]}


def study(**more):
    row = {"gain_over_grey": 1.0, "cf_ratio": 0.5, "delta_e": 9.0}
    variants = {
        "all terms": row | {"delta_e_paired": gap(0, 0, 0, [0, 0])},
        "without L1, plain": row
        | {"delta_e_paired": gap(1.5, 0.5, 2.5, [1.25, 1.75]), "seconds": 3.0},
    }
    made = record.origin("overnight", "2026-01-02", "abc1234", "half of the paper's training")
    return {"variants": variants, "origin": made, "size": 32} | more


# ------------------------------------------------------------------------------------- evidence


def test_paired_differences_leave_grey_pictures_out():
    nan = float("nan")
    ours = np.array([[2.0, nan, 4.0], [4.0, nan, 6.0]])
    found = evidence.paired(ours, np.array([[1.0, nan, 1.0]] * 2))
    assert found["mean"] == 3.0 and found["seeds"] == [2.0, 4.0]
    assert found["low"] <= 3.0 <= found["high"]
    assert evidence.paired([3.0, 5.0], [1.0, 1.0])["seeds"] == [3.0], "one seed, a plain row"


def test_one_number_a_training_becomes_evidence():
    found = evidence.measured([1.0, 2.0, 3.0])
    assert found["mean"] == 2.0 and found["seeds"] == [1.0, 2.0, 3.0]
    assert 1.0 <= found["low"] < 2.0 < found["high"] <= 3.0


def test_evidence_in_words():
    assert evidence.in_words(gap(1, -0.5, 2)) == "+1.00 [-0.50, +2.00]"
    assert evidence.in_words(evidence.exact(70)) == "70"


def test_the_scale_says_pictures_and_width():
    assert evidence.scale(40, 1000) == "4 % of the paper's training"
    assert evidence.scale(40, 1000, 0.125) == "4 % of the paper's training, 0.12 of its width"


# ------------------------------------------------------------------------------------- verdicts


def verdict(found, psnr=None, **more):
    path = ("studies", "a", "variants", "b", "delta_e_paired")
    row = {"delta_e_paired": found} | ({"psnr_paired": psnr} if psnr else {})
    found = {"a": {"learned": True, "variants": {"b": row}}, "measures": more.pop("measures", {})}
    (judged,) = evidence.judge([Claim("a", "1", "b", path, **more)], found, "nb")
    return judged["verdict"]


@pytest.mark.parametrize(
    ("found", "psnr", "expected"),
    [
        (SURE, None, "supported"),
        (SURE, UP, "supported"),
        (SURE, DOWN, "inconclusive"),  # the two measures disagree
        (gap(-1, -2, 0.1, [-1, -1, -1]), UP, "inconclusive"),  # the mean alone proves nothing
        (gap(-1, -2, -0.5, [-3, -1, 1]), UP, "inconclusive"),  # a training disagrees
        (gap(-1, -2, -0.5, [-1, -1]), UP, "inconclusive"),  # two trainings are too few
        (gap(-1, -2, -0.5, [-1], pairs=5), UP, "supported"),  # five pairs, each trained for itself
        (gap(-1, -2, -0.5, [-1], pairs=4), UP, "inconclusive"),
        (evidence.exact(-1), None, "supported"),  # counted: no luck in it
    ],
)
def test_the_rule_and_the_same_rule_from_the_other_side(found, psnr, expected):
    assert verdict(found, psnr) == expected
    other = "contradicted" if expected == "supported" else "inconclusive"
    assert verdict(found, psnr, side="above") == other
    if not found.get("exact"):
        assert verdict(turned(found), psnr and turned(psnr)) == other
        assert verdict(turned(found), psnr and turned(psnr), side="above") == expected


def test_a_threshold_may_be_another_number_than_zero():
    assert verdict(SURE, than=-0.2) == "supported"
    assert verdict(SURE, than=-0.7) == "inconclusive"
    assert verdict(SURE, than=-3) == "contradicted"


def test_a_measure_counts_only_where_its_control_fails():
    measures = {"passes": SURE, "fails": UP}
    assert verdict(SURE, control=("studies", "measures", "fails"), measures=measures) == "supported"
    assert (
        verdict(SURE, control=("studies", "measures", "passes"), measures=measures)
        == "inconclusive"
    )
    assert (
        verdict(SURE, control=("studies", "measures", "none"), measures=measures) == "inconclusive"
    )


def test_rows_carry_trainings_scale_and_origin():
    path = ("studies", "terms", "variants", "without L1", "delta_e_paired")
    claims = [
        Claim("L1 helps", "4.3", "without it", path, "above"),
        Claim("it sees 70 px", "4.5", "counted", ("studies", "px", "field"), "above", 69),
        Claim("users like it", "6", "", untestable="needs users"),
        Claim("it is fast", "5", "seconds", ("studies", "speed", "ratio")),
        Claim("it is small", "5", "weights", ("studies", "terms", "weights")),
    ]
    counted = {"field": evidence.exact(70), "learned": False}
    found = {"terms": study(learned=True), "px": counted, "speed": None}
    rows = evidence.judge(claims, found, "05_x")
    assert [tuple(row) for row in rows] == [record.CLAIM] * 5
    borrowed, counted, untestable, missing, absent = rows
    assert borrowed["number"] == "+1.50 [+0.50, +2.50]" and borrowed["trainings"] == 2
    assert borrowed["scale"] == "half of the paper's training"
    assert borrowed["origin"]["date"] == "2026-01-02"
    assert counted["number"] == "70" and counted["verdict"] == "supported"
    assert counted["scale"] == "" and counted["trainings"] is None
    assert untestable["verdict"] == "not testable" and untestable["test"] == "needs users"
    assert missing["verdict"] == "not run yet" and "colorlib run 05_x" in missing["test"]
    assert absent["verdict"] == "inconclusive" and absent["number"] == "none to compare"
    (unlearned,) = evidence.judge(claims[:1], {"terms": study(learned=False)}, "05_x")
    assert unlearned["verdict"] == "inconclusive" and "has not learned" in unlearned["test"]


# -------------------------------------------------------------------------------------- studies


def test_the_effect_of_a_variant_in_words():
    run = study()
    expected = "CIEDE2000 +1.50 [+0.50, +2.50] (overnight run of 2026-01-02)"
    assert evidence.effect(run, "without L1") == expected
    assert evidence.effect(run, "all") == "what is done here"
    assert evidence.effect(run, "other") == "no such variant in that run"
    assert evidence.effect(None, "all") == "not run yet"


def test_a_study_is_run_if_asked_for_and_read_otherwise(monkeypatch):
    monkeypatch.setattr(record, "newest_study", lambda notebook, name: study())
    asked = SimpleNamespace(studies=["losses"], profile="laptop")
    ran = evidence.find("nb", "losses", lambda: {"size": 64, "scale": "a half"}, asked)
    assert ran["origin"] == record.origin("laptop", scale="a half")
    assert evidence.source(ran) == "this run"
    assert evidence.find("nb", "losses", lambda: None, asked) is None
    read = evidence.find("nb", "other", lambda: pytest.fail("not asked for"), asked)
    assert evidence.source(read) == "overnight run of 2026-01-02"


@pytest.fixture
def tables(monkeypatch):
    shown = []
    keep = lambda rows, caption, name=None: shown.append((rows, caption, name))  # noqa: E731
    monkeypatch.setattr(figures, "table", keep)
    return shown


ENDS = {"all terms": [0.05, 0.06], "without L1, plain": [0.07, 0.08]}
RAN = {"data": "flowers", "seeds": [0, 1], "steps": 9, "learned": True, "errors": ENDS}
RAN |= {"floors": {"grey": 0.1, "constant": 0.09}}


def test_the_table_of_a_study(tables, capsys):
    own = SimpleNamespace(notebook="nb", studies={"losses": study(**RAN), "none": None})
    bench.Bench.show(own, "losses", "Terms", {"seconds": "s a step"})
    ((rows, caption, name),) = tables
    about = "flowers, 32 px, 9 steps, 2 training(s) each; overnight run of 2026-01-02"
    assert caption == f"Terms ({about})" and name == "losses"
    assert rows[0]["each seed"] == "–" and "s a step" not in rows[0]
    assert rows[1]["CIEDE2000 against the first"] == "+1.50 [+0.50, +2.50]"
    assert rows[1]["each seed"] == "+1.25, +1.75" and rows[1]["s a step"] == 3.0
    said = capsys.readouterr().out
    assert "ends at a validation error of 0.06, below both" in said
    assert said.endswith("farther: without L1, plain.\n")
    bench.Bench.show(own, "none", "Terms")
    assert len(tables) == 1
    said = capsys.readouterr().out
    assert said == "Terms: not run yet. Run it: python -m colorlib run nb --profile overnight\n"


def test_a_claim_that_nothing_was_run_for_says_how_to_run_it():
    (row,) = evidence.judge([Claim("it is fast", "5", "s", ("studies", "x"))], {}, "studies/03_a")
    assert row["test"].endswith("Run it: python -m colorlib run studies/03_a --profile overnight")


def test_the_ledger_is_that_of_the_newest_larger_studies(tmp_path, monkeypatch, tables, capsys):
    monkeypatch.setenv("COLORLIB_ROOT", str(tmp_path))
    evidence.show_ledger("03_a")
    command = "python -m colorlib run studies/03_a --profile overnight"
    assert capsys.readouterr().out.count("\n") == 1 and not tables
    quoted = record.origin("paper", "2026-01-01", "abc", "all")
    for place, date, number, origin in (
        ("overnight/studies/03_a", "2026-02-02", "2.0", quoted),
        ("paper/studies/03_a", "2026-01-03", "1.0", None),
        ("laptop/studies/03_a", "2026-04-04", "4.0", None),
        ("overnight/03_a", "2026-05-05", "5.0", None),
        ("overnight/studies/04_b", "2026-05-05", "6.0", None),
    ):
        profile, _, name = place.partition("/")
        (claim,) = tiny.METRICS["claims"]
        claims = [claim | {"number": number, "origin": origin}]
        about = {"profile": profile, "notebook": name, "claims": claims}
        tiny.keep(tmp_path / "reports" / place / "metrics.json", tiny.METRICS | about)
        run = {"date": f"{date}T00:00:00+00:00"}
        tiny.keep(tmp_path / "reports" / place / "run.json", run)
    for name in ("03_a", "studies/03_a"):
        evidence.show_ledger(name)
    (rows, caption, _), again = tables
    assert again[:2] == (rows, caption) and "overnight run of 2026-02-02" in caption
    assert rows[0]["number"] == "2.0" and rows[0]["verdict"] == "supported"
    assert rows[0]["trainings"] == 3 and rows[0]["scale"] == "4 % of the paper's"
    assert rows[0]["run"] == "paper run of 2026-01-01", "who quotes says whom"
    evidence.show_ledger("05_c")
    said = capsys.readouterr().out
    assert (
        said == f"What the paper claims: not run yet. Run it: {command.replace('03_a', '05_c')}\n"
    )


def test_claims_and_questions_become_tables(tables):
    lines = "\nX-01 | unstated | {size} px | small | {weight}\nX-02 | a | b | c | d\n"
    rows = evidence.questions(lines, {"size": 64, "weight": "little"})
    assert rows[0]["we do"] == "64 px" and rows[0]["how much it matters"] == "little"
    with pytest.raises(ValueError, match=r"shorter|argument"):
        evidence.questions("X-03 | too | few", {})
    claims = evidence.judge([Claim("users like it", "6", "", untestable="needs users")], {}, "nb")
    evidence.show_claims(claims, "Claims")
    assert tables[0][0][0]["verdict"] == "not testable"
