"""`colorlib colorize`: photos in, photos out, with a model that a notebook's run has left.

Where no run has left one, a small model that comes with the code paints (`models/`, with a card).

A notebook that learns from one reference picture defines `fit_reference` instead: it is trained
here, once (`fit_reference(reference, here, ...)`), or for every photo anew, if it asks to see the
photo (`fit_reference(reference, here, lightness, ...)`).

What a file of weights says of itself (`training.read_info`) is heeded: with a "target", as
`thumbnail` makes it, its network can paint that one picture only, and others are refused.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, count
from pathlib import Path
from types import ModuleType

import click
import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from colorlib import color, files, machine, notebooks, pictures, training

Painter = Callable[..., np.ndarray]  # of a picture; `seed` chooses a version where draws differ

# where weights are looked for, best first; smoke trains nothing worth using
PROFILES = ("paper", "overnight", "laptop", "local")
MODELS = Path(__file__).parent / "models"  # small ones, committed with the code


class ColorizeError(Exception):
    """Nothing can be coloured; one line that says what to do."""


@dataclass(frozen=True)
class Outcome:
    """What became of one photo: the file written, or the problem in one line."""

    photo: str
    written: str = ""
    problem: str = ""


def find_weights(name: str, row: str, insist: bool = True) -> Path:
    """Return the weights of a notebook's row from its best run; or say what to run first.

    Unless we insist on the row, the committed model counts too, whatever row it is.
    """
    folders = [files.root() / "reports" / profile / name / "weights" for profile in PROFILES]
    folders.append(MODELS / name)
    places = [folder / f"{row}.safetensors" for folder in folders]
    places += [] if insist else sorted(folders[-1].glob("*.safetensors"))
    if found := [place for place in places if place.is_file()]:
        return found[0]
    if there := sorted({file.stem for folder in folders for file in folder.glob("*.safetensors")}):
        known = ", ".join(there)
        raise ColorizeError(f"no trained row '{row}' of {name}; there is {known} (--row)")
    first = f"run `python -m colorlib run {name}` first, or give a file with --weights"
    raise ColorizeError(f"no trained weights of {name} yet; {first}")


def load_model(notebook: ModuleType, name: str, file: Path, here: machine.Machine) -> tuple:
    """Return the model in a file of weights, and its info; what cannot paint is refused."""
    info = training.read_info(file)
    if info.get("notebook") != name or "build" not in info:
        whose = info.get("notebook", "an unknown network")
        raise ColorizeError(f"{file}: weights of {whose}, not of {name}; give other --weights")
    try:
        model = notebook.load_model(file, here.device)
        np.reshape(info.get("target", np.zeros(64)), (8, 8)).astype(float)
    except training.WeightsError:
        raise
    except Exception as error:  # a header may say anything, and mislead any network
        why = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        raise ColorizeError(f"{file}: fits no network of {name} ({why}); train it anew") from None
    if not all(value.isfinite().all() for value in model.state_dict().values()):
        raise ColorizeError(f"{file}: holds weights that are no numbers; train it anew")
    return model, info


def lightness_of(rgb: np.ndarray, here: machine.Machine) -> torch.Tensor:
    """Return the L* of a picture, uint8 (H, W, 3), as (1, 1, H, W) in 0..100 on the device."""
    return color.lightness_of(rgb).to(here.device)


def thumbnail(lightness: torch.Tensor) -> list[list[int]]:
    """Return the mean L* of 8 x 8 fields of a picture, (1, 1, H, W): enough to know it again."""
    return F.adaptive_avg_pool2d(lightness, 8)[0, 0].round().int().tolist()


def colorize_picture(
    notebook: ModuleType, model: torch.nn.Module, rgb: np.ndarray, here: machine.Machine, **options
) -> np.ndarray:
    """Colour the lightness of one picture, uint8 (H, W, 3), whatever its size; uint8 again."""
    lightness = lightness_of(rgb, here)
    with here.autocast():
        painted = notebook.colorize(model, lightness, **options)
    return color.to_picture(painted)


def choose_painter(
    name: str, reference: str, weights: str, row: str, side: int, draws: int, device: str
) -> Painter:
    """Return what paints one photo: a trained model, or one that learns a reference first."""
    notebook = notebooks.load(name)
    learns, given = hasattr(notebook, "fit_reference"), bool(weights or row)
    known = inspect.signature(getattr(notebook, "colorize", lambda: None)).parameters
    refusals = {
        "trains no model that colours pictures; choose another --with": not known,
        "takes no reference picture; leave --reference out": reference and not learns,
        "has no choice of side; leave --side out": side and "side" not in known,
        "paints a photo in one way only; leave --draws out": draws > 1 and "draws" not in known,
        "has learned a reference in --weights; leave --reference out": reference and given,
        "learns from one picture: say --reference PICTURE, a photo in colour that looks like yours "
        "(or give --weights)": learns and not given and not reference,
    }
    for words, applies in refusals.items():
        if applies:
            raise ColorizeError(f"{name} {words}")
    here, options = machine.prepare(device), {"side": side} if side else {}
    if learns and not given:
        return _fitted(notebook, name, reference, here, options)
    file = Path(weights) if weights else find_weights(name, row or notebook.MAIN_ROW, bool(row))
    return _trained(notebook, name, file, here, options, draws)


def _trained(
    notebook: ModuleType, name: str, file: Path, here: machine.Machine, options: dict, draws: int
) -> Painter:
    """Paint with the weights in a file; refuse versions that could not differ."""
    model, info = load_model(notebook, name, file, here)
    who, data = f"{name}, {info.get('row', '')}", info.get("data", "?")
    if draws > 1 and hasattr(notebook, "paints_versions") and not notebook.paints_versions(model):
        one = "this model has no noise, all versions would be one; leave --draws out"
        raise ColorizeError(f"{who}: {one}")
    small = "the small model that comes with colorlib, trained on {}; colours are guesses"
    line = small if MODELS in file.resolve().parents else "weights trained on {}"
    click.echo(f"{who}: {line.format(data)}", err=True)

    def paint(rgb: np.ndarray, **version: int) -> np.ndarray:
        here_is = thumbnail(lightness_of(rgb, here))
        gap = np.abs(np.subtract(info.get("target", here_is), here_is)).mean()
        if gap > 3:  # of L*: more than another size or another codec does
            one = f"these weights paint one picture, {data}, and this is not it"
            raise ColorizeError(f"{one}; leave --weights out")
        return colorize_picture(notebook, model, rgb, here, **options, **version)

    return paint


def _fitted(
    notebook: ModuleType, name: str, reference: str, here: machine.Machine, options: dict
) -> Painter:
    """Paint with a reference's colours; they are learned when they are needed."""
    colours, fit = pictures.read_rgb(reference), notebook.fit_reference
    known = inspect.signature(fit).parameters
    given = {key: value for key, value in options.items() if key in known}
    anew = "lightness" in known  # a training for every photo
    takes = getattr(notebook, "FIT_TAKES", "some minutes")
    models: list[torch.nn.Module] = []

    def paint(rgb: np.ndarray, **version: int) -> np.ndarray:
        if anew or not models:
            photo = {"lightness": lightness_of(rgb, here)} if anew else {}
            models[:] = [fit(colours, here, **photo, **given)]
        return colorize_picture(notebook, models[0], rgb, here, **options, **version)

    times = f"for each photo: {takes}" if anew else f"once: {takes}"
    click.echo(f"{name} learns the colours of {Path(reference).name} {times}", err=True)
    return paint


def find_photos(where: tuple[str, ...], output: Path) -> tuple[list[Path], list[Outcome]]:
    """Return the photos that files, folders and patterns name, each once, and what named none.

    What stands in an output folder below an input folder was painted here, and is no photo.
    """
    found, problems, output = {}, [], output.resolve()
    for place in where:
        below = Path(place).resolve() in output.parents
        try:
            for photo in pictures.find(place):
                if not (below and output in photo.resolve().parents):
                    found[photo] = None
        except pictures.PictureError as error:
            problems.append(Outcome(place, problem=str(error)))
    return list(found), problems


def plan_targets(photos: list[Path], folder: Path, suffix: str) -> dict[Path, Path]:
    """Give each photo a file of its own, with its suffix or a number where two would meet."""
    stems = Counter(photo.stem.casefold() for photo in photos)  # macOS and Windows fold case
    targets: dict[Path, Path] = {}
    taken: set[str] = set()
    for photo in photos:
        name = photo.stem if stems[photo.stem.casefold()] == 1 else photo.name
        names = chain([name], (f"{name}-{number}" for number in count(2)))
        free = next(name for name in names if name.casefold() not in taken)
        taken.add(free.casefold())
        targets[photo] = folder / (free + suffix)
    return targets


def colorize_file(photo: Path, target: Path, paint: Painter, kept: Callable) -> Outcome:
    """Read, colour and write one photo, over no file that is kept; alpha and profile come along."""
    try:
        if why := kept(target):
            raise ColorizeError(f"{target} {why}")
        picture = pictures.read(photo)
        pictures.write(target, paint(picture.rgb), alpha=picture.alpha, icc=picture.icc)
    except pictures.PictureError as error:
        return Outcome(str(photo), problem=str(error))
    except ColorizeError as error:
        return Outcome(str(photo), problem=f"{photo}: {error}")
    except (MemoryError, RuntimeError) as error:  # torch says it as a RuntimeError
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        return Outcome(str(photo), problem=f"{photo}: too large for this machine's memory")
    return Outcome(str(photo), written=str(target))


def colorize_all(
    targets: dict[Path, Path], paint: Painter, draws: int, overwrite: bool
) -> Iterator[Outcome]:
    """Colour every photo once, or in versions NAME-1, NAME-2, ..., each by its own seed."""
    originals = {photo.resolve() for photo in targets}

    def kept(target: Path) -> str:
        if target.resolve() in originals:
            return "is itself a photo to colour; choose another folder"
        there = os.path.exists(target) and not overwrite
        return "exists; use --overwrite or another folder" if there else ""

    for photo, target in tqdm(targets.items(), unit="photo", disable=None, file=sys.stderr):
        for seed in range(draws):
            version = partial(paint, seed=seed) if draws > 1 else paint
            file = target.with_stem(f"{target.stem}-{seed + 1}") if draws > 1 else target
            outcome = colorize_file(photo, file, version, kept)
            yield outcome
            if outcome.problem:  # it would meet every further version too
                break


@click.command("colorize")
@click.argument("photos", nargs=-1, required=True)
@click.option("--with", "name", default="03", show_default=True, help="The notebook that paints.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A folder.")
@click.option("--reference", default="", help="A picture to take colours from (02, 04).")
@click.option("--weights", default="", help="A file of weights instead of the best run's.")
@click.option("--row", default="", help="Another trained row of the notebook, as unet_gan.")
@click.option("--side", default=0, type=click.IntRange(0), help="Short side it sees; 0: its own.")
@click.option("--draws", default=1, type=click.IntRange(1, 100), help="Versions of a photo (05).")
@click.option("--device", default="auto", help="auto, cpu, cuda or mps.")
@click.option("--jpeg", is_flag=True, help="Write JPEG instead of PNG.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcomes as JSON.")
def command(photos, name, output, draws, jpeg, overwrite, as_json, **asked):
    """Colour PHOTOS (files, folders or patterns) at full size; their own lightness is kept.

    Colours are guesses. Exit status: 0 all were coloured, 1 some or none were, 2 wrong use.
    """
    paint = choose_painter(notebooks.full_name(name), draws=draws, **asked)
    found, outcomes = find_photos(photos, output)
    targets = plan_targets(found, output, ".jpg" if jpeg else ".png")
    outcomes += colorize_all(targets, paint, draws, overwrite)
    problems = [outcome.problem for outcome in outcomes if outcome.problem]
    if as_json:
        click.echo(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    else:
        for problem in problems:
            click.echo(f"not coloured: {problem}", err=True)
        click.echo(f"{len(outcomes) - len(problems)} of {len(outcomes)} coloured")
    sys.exit(0 if outcomes and not problems else 1)
