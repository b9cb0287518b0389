"""`colorlib colorize`: photos in, photos out, with a model that a notebook's run has left.

Where no run has left one, a small model that comes with the code paints (`models/`, with a card).

A notebook that learns from one reference picture defines `fit_reference` instead: it is trained
here, once (`fit_reference(reference, here, ...)`), or for every photo anew, if it asks to see the
photo (`fit_reference(reference, here, lightness, ...)`).

What a file of weights says of itself (`training.read_info`) is heeded: with a "target", as
`thumbnail` makes it, its network can paint that one picture only, and others are refused.
"""

from __future__ import annotations

import copy
import inspect
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import click
import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from colorlib import color, datasets, files, machine, notebooks, pictures, training

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

    Unless we insist on the row, the committed model counts too, whatever row it is: after the
    runs, but before what has only seen drawn pictures.
    """
    folders = [files.root() / "reports" / profile / name / "weights" for profile in PROFILES]
    folders.append(MODELS / name)
    places = [folder / f"{row}.safetensors" for folder in folders]
    if not insist:
        places += sorted(folders[-1].glob("*.safetensors"))
    found = [place for place in places if place.is_file()]
    if found:
        return found[0] if insist else min(found, key=_knows_drawings_only)
    if there := sorted({file.stem for folder in folders for file in folder.glob("*.safetensors")}):
        raise ColorizeError(
            f"no trained row '{row}' of {name}; there is {', '.join(there)} (--row)"
        )
    raise ColorizeError(
        f"no trained weights of {name} yet; run `python -m colorlib run {name}` first, "
        "or give a file with --weights"
    )


def _knows_drawings_only(file: Path) -> bool:
    return training.read_info(file).get("data") == "garden"


def halve(file: str | Path, target: str | Path, data: str) -> float:
    """Write a model's weights as float16, which is how a model of `models/` is made.

    data: what the file shall say it was trained on. Returns by how many levels (of 255) a colour
    of the embedded photos changes at most; a whole level is refused.
    """
    info = training.read_info(file)
    notebook = notebooks.load(info["notebook"])
    whole = notebook.load_model(file)
    halved = copy.deepcopy(whole)
    for weight in halved.parameters():
        weight.data = weight.data.half().float()
    here = machine.prepare("cpu", "fp32")
    greys = [lightness_of(datasets.photo(name), here) for name in datasets.PHOTOS]
    painted = ([notebook.colorize(model, grey) for model in (whole, halved)] for grey in greys)
    change = 255 * torch.stack([(one - other).abs().max() for one, other in painted]).max().item()
    if not change < 1:  # nor may it be NaN
        raise ColorizeError(f"{file}: float16 changes a colour by {change:.2f} of 255 levels")
    training.save_weights(target, whole, info | {"data": data}, half=True)
    return change


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


def lightness_of(rgb: np.ndarray, here: machine.Machine) -> torch.Tensor:
    """Return the L* of a picture, uint8 (H, W, 3), as (1, 1, H, W) in 0..100 on the device."""
    batch = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None].to(here.device)
    return (color.to_network(batch)[0] + 1) * 50


def plan_targets(photos: list[Path], folder: Path, suffix: str) -> dict[Path, Path]:
    """Give each photo a file of its own, with its suffix or a number where two would meet."""
    stems = Counter(photo.stem.casefold() for photo in photos)  # macOS and Windows fold case
    targets: dict[Path, Path] = {}
    taken: set[str] = set()
    for photo in photos:
        name = photo.stem if stems[photo.stem.casefold()] == 1 else photo.name
        number, free = 1, name
        while free.casefold() in taken:
            number += 1
            free = f"{name}-{number}"
        taken.add(free.casefold())
        targets[photo] = folder / (free + suffix)
    return targets


def colorize_file(photo: Path, target: Path, overwrite: bool, paint: Painter) -> Outcome:
    """Read, colour and write one photo; alpha and colour profile are carried over."""
    if target.exists() and target.resolve() == photo.resolve():
        return Outcome(str(photo), problem=f"{photo} is its own target; choose another folder")
    if target.exists() and not overwrite:
        return Outcome(str(photo), problem=f"{target} exists; use --overwrite or another folder")
    try:
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


def colorize_versions(
    photo: Path, target: Path, overwrite: bool, paint: Painter, draws: int
) -> list[Outcome]:
    """Colour one photo once, or in several versions NAME-1, NAME-2, ..., each by its own seed."""
    if draws == 1:
        return [colorize_file(photo, target, overwrite, paint)]
    outcomes: list[Outcome] = []
    for seed in range(draws):
        file = target.with_stem(f"{target.stem}-{seed + 1}")
        outcomes.append(colorize_file(photo, file, overwrite, partial(paint, seed=seed)))
        if outcomes[-1].problem:  # it would meet every further version too
            break
    return outcomes


def find_photos(where: tuple[str, ...]) -> tuple[list[Path], list[Outcome]]:
    """Return the photos that files, folders and patterns name, each once, and what named none."""
    found, problems = {}, []
    for place in where:
        try:
            found.update(dict.fromkeys(pictures.find(place)))
        except pictures.PictureError as error:
            problems.append(Outcome(place, problem=str(error)))
    return list(found), problems


def load_model(notebook: ModuleType, name: str, file: Path, here: machine.Machine) -> tuple:
    """Return the model in a file of weights, and its info; another notebook's is refused."""
    info = training.read_info(file)
    if info.get("notebook") != name or "build" not in info:
        whose = info.get("notebook", "an unknown network")
        raise ColorizeError(f"{file}: weights of {whose}, not of {name}; give other --weights")
    return notebook.load_model(file, here.device), info


def options_for(notebook: ModuleType, name: str, reference: str, side: int, draws: int = 1) -> dict:
    """Return the options that this notebook's `colorize` understands; refuse the others."""
    if not hasattr(notebook, "colorize"):
        raise ColorizeError(f"{name} trains no model that colours pictures; choose another --with")
    known = inspect.signature(notebook.colorize).parameters
    options = {}
    if reference and "reference" not in known and not hasattr(notebook, "fit_reference"):
        raise ColorizeError(
            f"{name} takes no reference picture; leave --reference out, or choose --with 02"
        )
    if reference and "reference" in known:
        options["reference"] = pictures.read_rgb(reference)
    if side and "side" not in known:
        raise ColorizeError(f"{name} has no choice of side; leave --side out")
    if draws > 1 and not {"draws", "seed"} <= known.keys():
        raise ColorizeError(f"{name} paints a photo in one way only; leave --draws out")
    return options | ({"side": side} if side else {})


def trained_painter(
    notebook: ModuleType, name: str, file: Path, here: machine.Machine, options: dict, draws: int
) -> Painter:
    """Return what paints with the weights in a file; refuse versions that could not differ."""
    model, info = load_model(notebook, name, file, here)
    row, data = info.get("row", ""), info.get("data", "?")
    if draws > 1 and hasattr(notebook, "paints_versions") and not notebook.paints_versions(model):
        raise ColorizeError(
            f"{name}, {row}: this model has no noise, all versions would be one; leave --draws out"
        )
    if MODELS in file.resolve().parents:
        line = f"the small model that comes with colorlib, trained on {data}; colours are guesses"
        click.echo(f"{name}, {row}: {line}", err=True)
    else:
        click.echo(f"{name}, {row}: weights trained on {data}", err=True)

    def paint(rgb: np.ndarray, **version: int) -> np.ndarray:
        refuse_another_target(info, rgb, here)
        return colorize_picture(notebook, model, rgb, here, **options, **version)

    return paint


def refuse_another_target(info: dict, rgb: np.ndarray, here: machine.Machine) -> None:
    """Refuse a picture that is not the one that these weights can paint, if they name one."""
    if "target" not in info:
        return
    gap = np.subtract(info["target"], thumbnail(lightness_of(rgb, here)))
    if np.abs(gap).mean() > 3:  # of L*: more than another size or another codec does
        raise ColorizeError(
            f"these weights paint one picture, {info.get('data', 'another')}, and this is not it; "
            "leave --weights out"
        )


def fitted_painter(
    notebook: ModuleType, name: str, reference: str, here: machine.Machine, options: dict
) -> Painter:
    """Return what paints with a reference's colours; they are learned when they are needed."""
    colours, fit = pictures.read_rgb(reference), notebook.fit_reference
    known = inspect.signature(fit).parameters
    given = {key: value for key, value in options.items() if key in known}
    anew = "lightness" in known  # a training for every photo
    models: list[torch.nn.Module] = []

    def paint(rgb: np.ndarray, **version: int) -> np.ndarray:
        if anew:
            model = fit(colours, here, lightness=lightness_of(rgb, here), **given)
        else:
            models[:] = models or [fit(colours, here, **given)]
            model = models[0]
        return colorize_picture(notebook, model, rgb, here, **options, **version)

    takes = getattr(notebook, "FIT_TAKES", "some minutes")
    how_often = "for each photo" if anew else "once"
    click.echo(
        f"{name} learns the colours of {Path(reference).name} {how_often}: {takes}", err=True
    )
    return paint


def choose_painter(
    notebook: ModuleType,
    name: str,
    reference: str,
    weights: str,
    row: str,
    device: str,
    side: int,
    draws: int = 1,
) -> Painter:
    """Return what paints one photo: a trained model, or one that learns a reference first."""
    options = options_for(notebook, name, reference, side, draws)
    if hasattr(notebook, "fit_reference") and not (weights or row):
        if not reference:
            raise ColorizeError(
                f"{name} learns from one picture: say --reference PICTURE, a photo in colour "
                "that looks like yours (or give --weights)"
            )
        return fitted_painter(notebook, name, reference, machine.prepare(device), options)
    if hasattr(notebook, "fit_reference") and reference:
        raise ColorizeError("--weights hold a learned reference already; leave --reference out")
    if weights:
        file = Path(weights)
    else:
        file = find_weights(name, row or notebook.MAIN_ROW, insist=bool(row))
    return trained_painter(notebook, name, file, machine.prepare(device), options, draws)


@click.command("colorize")
@click.argument("photos", nargs=-1, required=True)
@click.option(
    "--with", "name", default="03", show_default=True, help="The notebook whose model paints."
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A folder.")
@click.option("--reference", default="", help="A picture to take colours from (02, 04).")
@click.option("--weights", default="", help="A file of weights instead of the best run's.")
@click.option("--row", default="", help="Another trained row of the notebook, as unet_gan.")
@click.option(
    "--side",
    default=0,
    type=click.IntRange(0),
    help="Short side the network sees; 0: as it was trained.",
)
@click.option(
    "--draws",
    default=1,
    type=click.IntRange(1, 100),
    help="Versions of each photo, NAME-1, NAME-2, ..., from a notebook that has noise (05).",
)
@click.option("--device", default="auto", help="auto, cpu, cuda or mps.")
@click.option("--jpeg", is_flag=True, help="Write JPEG instead of PNG.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcomes as JSON.")
def command(
    photos, name, output, reference, weights, row, side, draws, device, jpeg, overwrite, as_json
):
    """Colour PHOTOS (files, folders or patterns) at full size; their own lightness is kept.

    Colours are guesses. Exit status: 0 all were coloured, 1 some or none were, 2 wrong use.
    """
    name = notebooks.full_name(name)
    notebook = notebooks.load(name)
    paint = choose_painter(notebook, name, reference, weights, row, device, side, draws)
    found, outcomes = find_photos(photos)
    targets = plan_targets(found, output, ".jpg" if jpeg else ".png")
    for photo, target in tqdm(targets.items(), unit="photo", disable=None, file=sys.stderr):
        outcomes += colorize_versions(photo, target, overwrite, paint, draws)
    report(outcomes, as_json)
    sys.exit(0 if outcomes and not any(o.problem for o in outcomes) else 1)


def report(outcomes: list[Outcome], as_json: bool) -> None:
    """Print what became of every photo."""
    if as_json:
        click.echo(json.dumps([asdict(o) for o in outcomes], indent=1))
        return
    for outcome in outcomes:
        if outcome.problem:
            click.echo(f"not coloured: {outcome.problem}", err=True)
    written = sum(bool(o.written) for o in outcomes)
    click.echo(f"{written} of {len(outcomes)} coloured")
