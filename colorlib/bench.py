"""Studies of a paper as data: variants of a lesson's training, trained once, scored, shown, judged.

A notebook of studies has a table (study -> title -> what is changed). Its `plan(changes, seed)`
gives the variant that a line asks for, its `train(name, variant)` trains it. The first variant of
a study is what the others are held against; nothing follows where that one has not learned.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from colorlib import color, evidence, figures, files, metrics, pairs
from colorlib.evidence import Claim, Study, judge  # noqa: F401  judge: for the notebooks

Table = Mapping[str, Mapping[str, Any]]
HEADS = {"gain_over_grey": "gain over grey, dB", "cf_ratio": "colourfulness / truth"}
HEADS |= {"delta_e": "CIEDE2000", "to_grey": "CIEDE2000 against grey"}  # and its own measure


class Trained(NamedTuple):
    """What a training left: its test pictures, how it went, and whatever else a study looks at."""

    painted: np.ndarray
    histories: tuple | list = ()
    painter: Any = None
    variant: Any = None
    game: Any = None


@dataclass(eq=False)
class Bench:
    """Trains what is alike once, and keeps networks, scores and results of studies."""

    notebook: str
    P: Any
    table: Table
    pictures: Any  # a PictureSet; of a PairBench, pairs
    plan: Callable[[Any, int], Any]
    train: Callable[[str, Any], Trained]
    floors: Callable[[Any], dict[str, float]]
    scale: str
    networks: dict[Any, Trained] = field(default_factory=dict)
    found: dict[str, dict[str, list[Trained]]] = field(default_factory=dict)
    scores: dict[str, dict[str, dict]] = field(default_factory=dict)
    studies: dict[str, Study | None] = field(default_factory=dict)
    measure = "validation error"  # how far from the truth a training ended
    compare = staticmethod(evidence.paired)

    def __post_init__(self) -> None:
        self.test, self.name = self.pictures.test, self.pictures.name
        self.mean_ab = metrics.mean_ab(self.pictures.train.pictures)

    def trained(self, name: str, changes: Any) -> list[Trained]:
        """Return a variant's trainings, one a seed."""
        found = []
        for seed in self.P.study_seeds:
            variant = self.plan(changes, seed)
            if variant not in self.networks:
                self.networks[variant] = self.train(f"{name}, seed {seed}", variant)
            found.append(self.networks[variant])
        return found

    def run(self, study: str, truth: Any = None, more: Any = None, look: Any = None) -> Study:
        """Train the variants of a study and score them, and `more`: title -> paintings.

        truth: other pictures than the test pictures. look: what only this study measures,
        (bench, title -> trainings) -> title -> further keys.
        """
        lines = self.table[study].items()
        trained = {title: self.trained(f"{study}, {title}", changes) for title, changes in lines}
        found = trained | {title: [Trained(rgb)] for title, rgb in (more or {}).items()}
        self.found[study], first = found, next(iter(found.values()))[0]
        rows = self._score(study, truth)
        ends, floors = self.ends(study, trained)
        for title, errors in ends.items():
            rows[title]["error"] = float(np.mean(errors))
        for title, keys in (look(self, found) if look else {}).items():
            rows[title] |= keys
        learned = max(next(iter(ends.values()))) < min(floors.values())
        steps = sum(len(history.steps) for history in first.histories)
        about = {"data": self.name, "size": self.P.image_size, "seeds": self.P.study_seeds}
        about |= {"steps": steps, "scale": self.scale, "errors": ends, "floors": floors}
        return about | {"measure": self.measure, "learned": learned, "variants": rows}

    def ends(self, study: str, found: Mapping[str, list[Trained]]) -> tuple[dict, dict]:
        """Return title -> how each training ended, and the floors that the first must beat."""
        ends = {t: [e.histories[-1].validation[-1]["error"] for e in found[t]] for t in found}
        return ends, self.floors(next(iter(found.values()))[0].variant)

    def _score(self, study: str, truth: Any) -> dict[str, dict[str, Any]]:
        """Hold every painting of a study against the first title's, and against grey."""
        kept = self.scores[study] = self._scored(self.found[study], truth)
        first, rows = next(iter(kept.values())), {}
        for title, of in kept.items():
            row = {key: float(np.nanmean(of[key])) for key in ("gain_over_grey", "delta_e")}
            row["cf_ratio"] = float(np.mean(of["cf_ratio"]))
            row |= {f"{k}_paired": self.compare(of[k], first[k]) for k in ("psnr", "delta_e")}
            row["gain_paired"] = self.compare(of["gain_over_grey"], 0.0)
            row["delta_e_to_grey"] = self.compare(of["delta_e"], of["grey_floor"])
            rows[title] = row | {"to_grey": evidence.in_words(row["delta_e_to_grey"])}
        return rows

    def _scored(self, found: Mapping[str, list[Trained]], truth: Any) -> dict[str, dict]:
        """Return title -> score -> (trainings, pictures), NaN for pictures that are grey."""
        truth = self.test.pictures if truth is None else truth
        every = {f"{t}/{i}": one.painted for t in found for i, one in enumerate(found[t])}
        scores, kept = metrics.evaluate(every, truth, self.mean_ab, seed=self.P.seed), {}
        for title, each in found.items():
            rows = [f"{title}/{i}" for i in range(len(each))]
            arrays = {
                key: np.array([scores.per_picture[row][key] for row in rows])
                for key in ("psnr", "delta_e", "gain_over_grey")
            }
            arrays |= {floor: scores.per_picture[floor]["delta_e"] for floor in files.FLOORS}
            kept[title] = arrays | {"cf_ratio": [scores.rows[row]["cf_ratio"] for row in rows]}
        return kept

    def find(self, study: str, **how: Any) -> None:
        """Run a study if the parameters ask for it; else take its newest committed result."""
        run = lambda: self.run(study, **how)  # noqa: E731
        self.studies[study] = evidence.find(self.notebook, study, run, self.P)

    def show(self, study: str, caption: str, columns: Mapping[str, str] | None = None) -> None:
        """Show a study's table and what follows from it, or say how to get it.

        columns: further keys of the rows and their titles; only where a row has the key.
        """
        found = self.studies[study]
        if evidence.missing(self.notebook, found, caption):
            return
        heads, rows = HEADS | {"error": found.get("measure", Bench.measure)} | (columns or {}), []
        for title, of in found["variants"].items():
            gap, row = of["delta_e_paired"], {"variant": title}
            row["CIEDE2000 against the first"] = evidence.in_words(gap) if rows else "–"
            row["each seed"] = ", ".join(f"{e:+.2f}" for e in gap["seeds"]) if rows else "–"
            rows.append(row | {head: of[key] for key, head in heads.items() if key in of})
        figures.table(rows, f"{caption} ({told_of(found)}; {evidence.source(found)})", study)
        print("\n".join(sentences(found)))

    def show_pictures(
        self, study: str, alt: str, count: int = 0, title: str = "", ends: Any = None
    ) -> None:
        """Show test pictures as every variant paints them; not trained here: the committed figure.

        ends: other last columns than the truth, title -> pictures; then without the gains.
        """
        if study not in self.found:
            return figures.show_committed(self.notebook, study)
        drawn, credit = self._drawn(study, count, title, ends)
        figures.show_figure(drawn, study, alt=alt, credit=credit)

    def _drawn(self, study: str, count: int, title: str, ends: Any) -> tuple[Any, str]:
        few, variants = self.test.spread(count or 3), self.studies[study]["variants"]
        places = [self.test.names.index(name) for name in few.names]
        columns, captions = {"grey": np.stack([*map(color.grey_of, few.pictures)])}, {}
        for variant in self.table[study]:
            gains = self.scores[study][variant]["gain_over_grey"][0][places]
            told = ("grey" if np.isnan(g) else f"{round(g, 1) + 0.0:+} dB" for g in gains)
            columns[variant] = self.found[study][variant][0].painted[places]
            captions[variant] = [*told]
        last = ends or {"truth": self.test.pictures}
        columns |= {head: rgb[places] for head, rgb in last.items()}
        errors = (f"{name} {variants[name]['delta_e']:.1f}" for name in self.table[study])
        title = title or f"CIEDE2000: {', '.join(errors)}"
        return figures.picture_grid(columns, {} if ends else captions, title), few.credit_line


def over_pairs(ours: Any, theirs: Any) -> dict[str, Any]:
    """Compare two (seeds, pairs): paired evidence that knows how many pairs it rests on."""
    return evidence.paired(ours, theirs) | {"pairs": np.shape(ours)[-1]}


class PairBench(Bench):
    """The same for pairs: a training learns every reference, and paints a list of their targets."""

    measure = "CIEDE2000"
    compare = staticmethod(over_pairs)

    def __init__(self, *what: Any) -> None:
        super().__init__(*what[:-1], None, what[-1])  # as a Bench, but without floors

    def __post_init__(self) -> None:
        self.pairs, self.name = self.pictures, f"{len(self.pictures)} pairs"

    def _scored(self, found: Mapping[str, list[Trained]], truth: Any) -> dict[str, dict]:
        kept: dict[str, dict] = {}
        for title, each in found.items():
            both = [zip(self.pairs, one.painted, strict=True) for one in each]
            told = [[pairs.score(pair, {"it": rgb}) for pair, rgb in seed] for seed in both]
            rows = {
                row: {key: np.array([[s[row][key] for s in seed] for seed in told]) for key in keys}
                for row, keys in told[0][0].items()
            }
            vivid = rows["it"]["colourfulness"].mean() / rows["it"]["true_colourfulness"].mean()
            kept[title] = rows["it"] | {floor: rows[floor]["delta_e"] for floor in files.FLOORS}
            kept[title]["cf_ratio"] = [float(vivid)]
        return kept

    def ends(self, study: str, found: Mapping[str, list[Trained]]) -> tuple[dict, dict]:
        kept = self.scores[study]
        ends = {title: np.nanmean(kept[title]["delta_e"], 1).tolist() for title in found}
        first, rows = next(iter(kept.values())), {"grey": "grey_floor", "constant": "mean_ab"}
        return ends, {name: float(np.nanmean(first[row])) for name, row in rows.items()}

    def _drawn(self, study: str, count: int, title: str, ends: Any) -> tuple[Any, str]:
        few, rows, captions = self.pairs[: count or 6], {}, {}
        for variant in self.table[study]:
            rows[variant] = self.found[study][variant][0].painted[: len(few)]
            errors = self.scores[study][variant]["delta_e"][0][: len(few)]
            captions[variant] = [f"ΔE {error:.1f}" for error in errors]
        rows = {"source": [p.reference for p in few]} | rows | {"truth": [p.target for p in few]}
        return figures.picture_rows(rows, captions, title), pairs.credit_of(few)


def told_of(study: Study) -> str:
    each = f"{study['steps']} steps, {len(study['seeds'])} training(s) each"
    return f"{study['data']}, {study['size']} px, {each}"


def sentences(study: Study) -> list[str]:
    """Say whether the first variant has learned, and which others are to be told from it."""
    (first, ends), floors = next(iter(study["errors"].items())), study["floors"]
    where = "below" if study["learned"] else "NOT below"
    measure = study.get("measure", Bench.measure)
    lines = [f"{first} ends at a {measure} of {max(ends):.4g}, {where} both grey and one"]
    lines[0] += f" constant colour ({floors['grey']:.4g}, {floors['constant']:.4g})."
    if not study["learned"]:
        lines.append("It has not learned: whatever the table says, this study decides nothing.")
    sides: dict[str, list[str]] = {}
    for title in [*study["errors"]][1:]:
        gap = study["variants"][title]["delta_e_paired"]
        side = "nearer to the truth" if gap["high"] < 0 else "no difference shown"
        sides.setdefault("farther" if gap["low"] > 0 else side, []).append(title)
    words = "; ".join(f"{side}: {' · '.join(titles)}" for side, titles in sides.items())
    return [*lines, f"Beside {first}, by CIEDE2000 on these test pictures: {words}."]


def read_claims(lines: str) -> list[Claim]:
    """Read claims, a line each: six cells for one that is tested, three for one that cannot be.

    Section | quote | what is compared | study: variant: number | supported where it is | control;
    or section | quote | why it cannot be tested.
    """
    claims = []
    for line in lines.strip().splitlines():
        section, quote, compared, *rest = map(str.strip, line.split(" |"))
        if rest:
            path, control = _path_of(rest[0]), _path_of(rest[2])
            side, than = rest[1].split()
            claims.append(Claim(quote, section, compared, path, side, float(than), control))
        else:
            claims.append(Claim(quote, section, compared, untestable=compared))
    return claims


def _path_of(cell: str) -> tuple[str, ...]:
    study, *rest = cell.split(": ")
    return ("studies", study, "variants", *rest) if rest else ()
