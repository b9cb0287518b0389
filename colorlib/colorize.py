"""`colorlib colorize`: photos in, photos out, with a model that a notebook's run has left.

A notebook that learns from one picture defines `fit_reference(reference, here, ...)`: it is trained
here, once, or for every photo anew, if it asks for the photo's `lightness` too.
"""

import functools
import inspect
import os
import sys
from collections.abc import Callable, Collection
from itertools import chain, count
from pathlib import Path
from types import ModuleType

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from colorlib import color, files, machine, notebooks, pictures, training

# where weights are looked for, best first; smoke trains nothing worth using
PROFILES = ("paper", "overnight", "laptop", "local")
COMMITS = "Below 1 colours commit, above 1 all drift to one pale pink (07)."
MOST_PAINTED = 4_000_000  # pixels; a larger photo is painted smaller
MODELS = Path(__file__).parent / "models"  # small ones of overnight runs, before a short run's


class ColorizeError(Exception):
    """Nothing can be coloured; one line that says what to do."""


# of one photo; the next may go well
PROBLEMS = (ColorizeError, training.NonFiniteLoss, notebooks.ParameterError)


def find_weights(name: str, row: str, insist: bool = True) -> Path:
    """Return the weights of a notebook's row from its best run; or say what to run first.

    Unless we insist on the row, the committed model counts too, whatever row it is.
    """
    folders = [files.root() / "reports" / profile / name / "weights" for profile in PROFILES]
    folders.insert(2, MODELS / name)  # of an overnight run, too
    there = [file for folder in folders for file in sorted(folder.glob("*.safetensors"))]
    for file in there:
        if file.stem == row or (file.parent.parent == MODELS and not insist):
            return file
    known = ", ".join(sorted({file.stem for file in there})) or "none"
    first = f"run `python -m colorlib run {name}` first, or give --row or --weights"
    raise ColorizeError(f"no trained row '{row}' of {name}, there is {known}; {first}")


def load_model(notebook: ModuleType, name: str, file: Path, here: machine.Machine) -> tuple:
    """Return the model in a file of weights, and its info; what cannot paint is refused."""
    info = training.read_info(file)
    if info.get("notebook") != name or "build" not in info:
        whose = info.get("notebook", "an unknown network")
        raise ColorizeError(f"{file}: weights of {whose}, not of {name}; give other --weights")
    try:
        model = notebook.load_model(file, here.device)
    except training.WeightsError:
        raise
    except Exception as error:  # a header may say anything, and mislead any network
        why = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        raise ColorizeError(f"{file}: fits no network of {name} ({why}); train it anew") from None
    if not all(value.isfinite().all() for value in model.state_dict().values()):
        raise ColorizeError(f"{file}: holds weights that are no numbers; train it anew")
    return model, info


def thumbnail(lightness: Tensor) -> list[list[int]]:
    """Return the mean L* of 8 x 8 fields of a picture: in weights, the only one they can paint."""
    return F.adaptive_avg_pool2d(lightness, 8)[0, 0].round().int().tolist()


def colorize_picture(
    notebook: ModuleType, model: torch.nn.Module, rgb: np.ndarray, here: machine.Machine, **options
) -> np.ndarray:
    """Colour the lightness of one picture, uint8 (H, W, 3), whatever its size; uint8 again."""
    lightness = color.lightness_of(rgb).to(here.device)
    with here.autocast():
        return color.to_picture(notebook.colorize(model, lightness, **options))


def enlarge(painted: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Give a photo the colours of its smaller painting: in strips, which cost little memory."""
    ab = color.rgb_to_lab(color.as_rgb(painted[None]))[:, 1:]
    ab = F.interpolate(ab, rgb.shape[:2], mode="bicubic")[0].permute(1, 2, 0)
    strips = zip(np.array_split(rgb, 64), ab.tensor_split(64), strict=True)
    return np.concatenate([color.with_lightness(b, color.lightness_of(a)) for a, b in strips])


def choose_painter(
    name: str, reference: str, weights: str, row: str, draws: int, device: str, **asked: float
) -> Callable[..., np.ndarray]:
    """Return what paints one photo: a trained model, or one that learns a reference first."""
    notebook = notebooks.load(name)
    learns, given = hasattr(notebook, "fit_reference"), bool(weights or row)
    known = _takes(notebook, "colorize")
    options = {option: value for option, value in asked.items() if value}
    painting = {option: options[option] for option in options.keys() & known}
    taken = {*known, *(() if given else _takes(notebook, "fit_reference"))}
    strange = ", --".join(sorted(options.keys() - taken))
    refusals = {
        "trains no model that colours pictures; choose another --with": not known,
        "takes no reference picture; leave --reference out": reference and not learns,
        f"has no choice of {strange}; leave --{strange} out": strange,
        "paints a photo in one way only; leave --draws out": draws > 1 and "draws" not in known,
        "has learned a reference in --weights; leave --reference out": reference and given,
        "learns from one picture: say --reference PICTURE, a photo in colour that looks like yours "
        "(or give --weights)": learns and not given and not reference,
    }
    if wrong := [words for words, applies in refusals.items() if applies]:
        raise ColorizeError(f"{name} {wrong[0]}")
    here = machine.prepare(device)
    if learns and not given:
        model_for = _learned(notebook, name, reference, here, options)
    else:
        file = Path(weights) if weights else find_weights(name, row or notebook.MAIN_ROW, bool(row))
        model_for = _trained(notebook, name, file, here, draws)

    def paint(rgb: np.ndarray, **version: int) -> np.ndarray:
        share = min(1.0, (MOST_PAINTED / rgb[..., 0].size) ** 0.5)
        small = pictures.resize(rgb, max(1, round(min(rgb.shape[:2]) * share)), "keep")
        model = model_for(color.lightness_of(small).to(here.device))
        painted = colorize_picture(notebook, model, small, here, **painting, **version)
        return painted if share == 1 else enlarge(painted, rgb)

    return paint


def _takes(notebook: ModuleType, hook: str) -> Collection[str]:
    return inspect.signature(getattr(notebook, hook, lambda: None)).parameters


def _trained(
    notebook: ModuleType, name: str, file: Path, here: machine.Machine, draws: int
) -> Callable[[Tensor], torch.nn.Module]:
    """Return what gives the model in a file of weights for a photo that it can paint."""
    model, info = load_model(notebook, name, file, here)
    data, versions = info.get("data", "?"), getattr(notebook, "paints_versions", lambda _: True)
    if draws > 1 and not versions(model):
        raise ColorizeError(f"{file}: has no noise, all versions would be one; leave --draws out")
    small = "; the small model that comes with colorlib; colours are guesses"
    what = data + small * (MODELS in file.resolve().parents)
    click.echo(f"{name}, {info.get('row', '')}: weights trained on {what}", err=True)

    def model_for(lightness: Tensor) -> torch.nn.Module:
        photo = thumbnail(lightness)
        gap = np.abs(np.subtract(info.get("target", photo), photo)).mean()
        if gap > 3:  # of L*: more than another size or another codec does
            raise ColorizeError(f"the weights paint one picture, {data}; leave --weights out")
        return model

    return model_for


def _learned(
    notebook: ModuleType, name: str, reference: str, here: machine.Machine, options: dict
) -> Callable[[Tensor], torch.nn.Module]:
    """Return what learns a reference's colours: for every photo, or once, when it is needed."""
    known = _takes(notebook, "fit_reference")
    given = {key: value for key, value in options.items() if key in known}
    fit = functools.partial(notebook.fit_reference, pictures.read_rgb(reference), here, **given)
    once = functools.cache(fit)
    anew = "lightness" in known
    when = f"{'for each photo' if anew else 'once'}: {getattr(notebook, 'FIT_TAKES', 'minutes')}"
    click.echo(f"{name} learns the colours of {Path(reference).name} {when}", err=True)
    return lambda lightness: fit(lightness=lightness) if anew else once()


def find_photos(where: tuple[str, ...], output: Path) -> tuple[list[Path], list[str]]:
    """Return the photos that files, folders and patterns name, each once, and what named none.

    What stands in an output folder below an input folder was painted here, and is no photo.
    """
    found, problems, output = {}, [], output.resolve()
    for place in where:
        below = Path(os.path.realpath(place)) in output.parents  # that raises on no loop of links
        try:
            for photo in pictures.find(place):
                if not (below and output in Path(os.path.realpath(photo)).parents):
                    found[photo] = None
        except pictures.PictureError as error:
            problems.append(str(error))
    return list(found), problems


def plan_targets(photos: list[Path], folder: Path, suffix: str) -> dict[Path, Path]:
    """Give each photo a file of its own, with a number where two would meet."""
    targets, taken = {}, set()
    for photo in photos:
        names = chain([photo.stem], (f"{photo.stem}-{number}" for number in count(2)))
        free = next(name for name in names if name.casefold() not in taken)
        taken.add(free.casefold())  # macOS and Windows fold case
        targets[photo] = folder / (free + suffix)
    return targets


def colorize_file(
    photo: Path, target: Path, paint: Callable[[np.ndarray], np.ndarray], overwrite: bool
) -> None:
    """Read, colour and write one photo; alpha and profile come along."""
    if os.path.exists(target) and not overwrite:
        raise ColorizeError(f"{target} exists; use --overwrite or another folder")
    picture = pictures.read(photo)
    try:
        painted = paint(picture.rgb)
    except (MemoryError, RuntimeError) as error:  # torch says it as a RuntimeError
        if "memory" not in repr(error).lower():
            raise
        raise ColorizeError("too large for this machine's memory") from None
    pictures.write(target, painted, picture.alpha, picture.icc)


@click.command("colorize")
@click.argument("photos", nargs=-1, required=True)
@click.option("--with", "name", default="07", show_default=True, help="The notebook that paints.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A folder.")
@click.option("--reference", default="", help="A picture to take colours from (02, 04).")
@click.option("--weights", default="", help="A file of weights instead of the best run's.")
@click.option("--row", default="", help="Another trained row of the notebook (03: unet_gan).")
@click.option("--side", default=0, type=click.IntRange(0), help="Short side it sees; 0: its own.")
@click.option("--long", is_flag=True, help="Learn the reference with the paper's own numbers (02).")
@click.option("--draws", default=1, type=click.IntRange(1, 100), help="Versions (05, 07).")
@click.option("--temperature", type=click.FloatRange(0.01, 4), help=COMMITS)
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@click.option("--jpeg", is_flag=True, help="JPEG instead of PNG: not transparent.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
def command(photos, name, output, draws, jpeg, overwrite, **asked):
    """Colour PHOTOS (files, folders or patterns) at full size; their own lightness is kept.

    Colours are guesses. Exit status: 0 all were coloured, 1 some or none were, 2 wrong use.
    """
    paint = choose_painter(notebooks.full_name(name), draws=draws, **asked)
    found, problems = find_photos(photos, output)
    originals = {*map(os.path.realpath, found)}
    targets, done = plan_targets(found, output, ".jpg" if jpeg else ".png"), 0
    for photo, target in tqdm(targets.items(), unit="photo", disable=None, file=sys.stderr):
        try:  # once, or in versions NAME-1, NAME-2, ..., each by its own seed
            for seed in range(draws):
                file = target.with_stem(f"{target.stem}-{seed + 1}") if draws > 1 else target
                version = functools.partial(paint, seed=seed) if draws > 1 else paint
                if os.path.realpath(file) in originals:
                    raise ColorizeError(f"{file} is itself a photo to colour; take another folder")
                colorize_file(photo, file, version, overwrite)
                done += 1
        except (pictures.PictureError, *PROBLEMS) as error:
            problems.append(f"{photo}: " * isinstance(error, PROBLEMS) + str(error))
    for problem in problems:
        click.echo(f"not coloured: {files.plain(problem)}", err=True)
    click.echo(f"{done} of {done + len(problems)} coloured")
    sys.exit(0 if done and not problems else 1)
