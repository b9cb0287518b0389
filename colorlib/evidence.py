"""The evidence of a claim: studies compared, shown and judged by one rule for every paper.

A study trains variants for equal steps, once per seed, and holds each against the first: variant
-> means, and `delta_e_paired`, `psnr_paired`, ... as `paired` returns them.

The rule: a claim is **supported** (or **contradicted**) where the whole interval lies on its side
(or the other one), at least three trainings all agree, or five pairs are behind it, its control
is not on the side that supports, and PSNR does not say the opposite of CIEDE2000. Anything else
that was tested is **inconclusive**.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from colorlib import figures, metrics, record
from colorlib.record import CONTRADICTED, INCONCLUSIVE, NOT_RUN, NOT_TESTABLE, SUPPORTED

FEWEST_TRAININGS = 3  # one training says nothing about the luck of a training
FEWEST_PAIRS = 5  # where every pair is a training of its own
RUN_IT = "Run it: python -m colorlib run {} --profile overnight"

Evidence = Mapping[str, Any]  # mean, low, high and seeds (a number a training), pairs or exact
Study = dict[str, Any]
Path = tuple[str, ...]


class Claim(NamedTuple):
    """A sentence of a paper, where it stands, and what decides it."""

    quote: str
    section: str
    measured: str  # what is compared, in words
    path: Path = ()  # keys into {"studies": ...}, or the beginnings of names
    side: str = "below"  # supported where the evidence lies "below" or "above" `than`
    than: float = 0.0
    control: Path = ()  # where evidence stands that must not pass the same rule
    untestable: str = ""  # why it cannot be tested here


def paired(ours: Any, theirs: Any) -> dict[str, Any]:
    """Compare two (seeds, pictures): mean difference, 95 % interval over pictures, each seed's."""
    gap = np.atleast_2d(np.asarray(ours, float) - np.asarray(theirs, float))
    gap = gap[:, np.isfinite(gap).all(0)]  # without pictures that are not scored
    low, high = metrics.bootstrap(gap.mean(0), seed=0)
    return {"mean": float(gap.mean()), "low": low, "high": high, "seeds": gap.mean(1).tolist()}


def measured(values: Iterable[float]) -> dict[str, Any]:
    """Sum up one number a training, or a repetition: mean and 95 % interval over them."""
    low, high = metrics.bootstrap(np.array(values := [*map(float, values)]), seed=0)
    return {"mean": float(np.mean(values)), "low": low, "high": high, "seeds": values}


def exact(value: float) -> dict[str, Any]:
    """State what was counted or computed: there is no luck in it."""
    return {"mean": float(value), "low": float(value), "high": float(value), "exact": True}


def in_words(evidence: Evidence) -> str:
    if evidence.get("exact"):
        return f"{evidence['mean']:.4g}"
    return f"{evidence['mean']:+.2f} [{evidence['low']:+.2f}, {evidence['high']:+.2f}]"


def scale(seen: float, of: float, width: float = 1.0) -> str:
    """Write which share of the paper's own training a number rests on: pictures seen, and width."""
    wide = f", {width:.2g} of its width" if width != 1 else ""
    return f"{100 * seen / of:.2g} % of the paper's training{wide}"


def find(notebook: str, name: str, run: Callable[[], Study | None], P: Any) -> Study | None:
    """Run a study that the parameters ask for; else take its newest committed result, or None."""
    if name not in P.studies:
        return record.newest_study(notebook, name)
    study = run()
    return study and {**study, "origin": record.origin(P.profile, scale=study.get("scale", ""))}


def missing(notebook: str, study: Study | None, caption: str) -> bool:
    """Say how to get a study that has no result yet; True if so."""
    if study is None:
        print(f"{caption}: {NOT_RUN}. {RUN_IT.format(notebook)}")
    return study is None


def source(study: Study) -> str:
    origin = study["origin"]
    return f"{origin['profile']} run of {origin['date']}" if origin["date"] else "this run"


def effect(study: Study | None, name: str) -> str:
    """Write what a variant, named by the beginning of its name, changes against the first."""
    if study is None:
        return NOT_RUN
    row = look_up(study, ("variants", name))
    if row is None:
        return "no such variant in that run"
    if row is next(iter(study["variants"].values())):
        return "what is done here"
    return f"CIEDE2000 {in_words(row['delta_e_paired'])} ({source(study)})"


def judge(
    claims: Iterable[Claim], studies: Mapping[str, Study | None], notebook: str
) -> list[dict[str, Any]]:
    """Judge claims by studies, as rows for a record.

    A study whose first variant has not learned decides only what is counted.
    """
    return [_judged(claim, {"studies": studies}, notebook) for claim in claims]


def look_up(known: Mapping[str, Any], path: Path) -> Any:
    """Follow keys, each a name or the beginning of one; None where there is nothing."""
    for key in path:
        if not isinstance(known, Mapping):
            return None
        names = [key] if key in known else [name for name in known if name.startswith(key)]
        known = known[names[0]] if names else None
    return known


def _judged(claim: Claim, known: Mapping[str, Any], notebook: str) -> dict[str, Any]:
    row = dict.fromkeys(record.CLAIM) | {"claim": claim.quote, "section": claim.section}
    row |= {"test": claim.untestable or claim.measured, "scale": ""}
    if claim.untestable:
        return row | {"verdict": NOT_TESTABLE}
    study, found = look_up(known, claim.path[:2]), look_up(known, claim.path)
    if study is None:
        how = f"{claim.measured}. {RUN_IT.format(notebook)}"
        return row | {"test": how, "verdict": NOT_RUN}
    if found is None:  # it ran, and has no such number
        return row | {"number": "none to compare", "verdict": INCONCLUSIVE}
    counts, origin = found.get("exact"), study.get("origin")
    row |= {
        "number": in_words(found),
        "verdict": _verdict(claim, known, found),
        "trainings": None if counts else found.get("pairs") or len(found["seeds"]),
        "scale": (origin or {}).get("scale", ""),
        "origin": origin,
    }
    if not counts and not study["learned"]:
        why = f"{claim.measured} (but its first variant has not learned)"
        row |= {"test": why, "verdict": INCONCLUSIVE}
    return row


def _verdict(claim: Claim, known: Mapping[str, Any], found: Evidence) -> str:
    control = look_up(known, claim.control) if claim.control else {}
    if control is None:
        return INCONCLUSIVE
    sides = {each < claim.than for each in found.get("seeds", ())}
    agree = len(sides) == 1 and len(found["seeds"]) >= FEWEST_TRAININGS
    if not (agree or found.get("exact") or found.get("pairs", 0) >= FEWEST_PAIRS):
        return INCONCLUSIVE
    if control and _side(control, claim) == SUPPORTED:
        return INCONCLUSIVE
    if claim.path[-1] == "delta_e_paired":
        psnr = look_up(known, (*claim.path[:-1], "psnr_paired"))
        if psnr and (psnr["mean"] < 0) == (found["mean"] < 0):  # one says nearer, one farther
            return INCONCLUSIVE
    return _side(found, claim)


def _side(found: Evidence, claim: Claim) -> str:
    below, above = found["high"] < claim.than, found["low"] > claim.than
    if not (below or above):
        return INCONCLUSIVE
    return SUPPORTED if below == (claim.side == "below") else CONTRADICTED


def show_claims(rows: Sequence[Mapping[str, Any]], caption: str) -> None:
    table = []
    for row in rows:
        cells = {key: row[key] or "–" for key in ("number", "verdict", "trainings", "scale")}
        said = f"{row['claim']} ({row['section']})"
        if (row["origin"] or {}).get("date"):  # it is not of the run that tells it
            cells["run"] = source(row)
        table.append({"the paper": said, "what we compare": row["test"], **cells})
    figures.table(table, caption=caption)


def show_ledger(notebook: str) -> None:
    """Show a paper's claims as its newest overnight or paper studies judged them, or say how."""
    studies = f"studies/{notebook.removeprefix('studies/')}"
    for found, run in record.newest(notebook):
        if found["notebook"] == studies and found["claims"]:
            made = f"{found['profile']} run of {str(run.get('date', ''))[:10]}"
            return show_claims(found["claims"], f"What the paper claims ({made})")
    missing(studies, None, "What the paper claims")


def questions(lines: str, known: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the open questions as rows: a line each, ` | ` between cells, {names} filled in."""
    cells = [line.format(**known).split(" | ") for line in lines.strip().splitlines()]
    return [dict(zip(record.QUESTION, row, strict=True)) for row in cells]
