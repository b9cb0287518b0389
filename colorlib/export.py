"""`colorlib export`: a trained network as an ONNX file, for programs without Python.

A notebook that can be taken along defines `portable(model)`: a module, and its inputs by name.
"""

import importlib.util
import warnings
from pathlib import Path

import click
import numpy as np
import torch
from torch import nn

from colorlib import colorize, files, machine, notebooks

NEEDED = ("onnx", "onnxscript", "onnxruntime")
SIDES = 32  # a picture's sides are multiples of this
LARGEST = 64  # times SIDES
CLOSE = 1e-3  # what runtime and torch may differ by


def write(file: Path, module: nn.Module, given: dict[str, torch.Tensor]) -> float:
    """Write a module that takes a picture, (1, 1, H, W), and numbers; return how far it is off.

    The picture is the first that is given and may have any size; the file is run beside the module.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise colorize.ColorizeError(
            f"{', '.join(missing)}: not here; pip install colorlib[export]"
        )
    height, width = (SIDES * torch.export.Dim(f"{s}_32", min=2, max=LARGEST) for s in ("h", "w"))
    shapes = ({2: height, 3: width}, *[None] * (len(given) - 1))
    told = {"input_names": [*given], "output_names": ["answer"], "dynamic_shapes": shapes}
    file.parent.mkdir(parents=True, exist_ok=True)
    told |= {"dynamo": True, "external_data": False, "verbose": False}
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch's, about itself
        torch.onnx.export(module, (*given.values(),), file, **told)
    pictures = (torch.rand(1, 1, *sides) * 2 - 1 for sides in ((64, 96), (224, 160)))
    return max(gap(file, module, given | {next(iter(given)): each}) for each in pictures)


@torch.no_grad()
def gap(file: Path, module: nn.Module, given: dict[str, torch.Tensor]) -> float:
    """Return the largest difference between the file's answer and the module's."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {name: value.numpy() for name, value in given.items()})
    return float(np.abs(answer - module(*given.values()).numpy()).max())


@click.command("export")
@click.option("--with", "name", default="07", show_default=True, help="The notebook whose network.")
@click.option("-o", "--output", default="colorlib.onnx", show_default=True, metavar="FILE")
@click.option("--weights", default="", help="A file of weights instead of the best run's.")
@click.option("--row", default="", help="Another trained row of the notebook.")
def command(name: str, output: str, weights: str, row: str) -> None:
    """Write a trained network as an ONNX file, and run it once beside the original."""
    name = notebooks.full_name(name)
    notebook = notebooks.load(name)
    if not hasattr(notebook, "portable"):
        raise colorize.ColorizeError(f"{name}: has no network to take along; choose another --with")
    file = Path(weights or colorize.find_weights(name, row or notebook.MAIN_ROW, bool(row)))
    model, info = colorize.load_model(notebook, name, file, machine.prepare("cpu", "fp32"))
    off = write(Path(output), *notebook.portable(model))
    files.write_json(Path(output).with_suffix(".json"), info)  # the size it sees is in its "build"
    click.echo(f"{output}: {Path(output).stat().st_size / 1e6:.1f} MB, differs by {off:.1g}")
    if off > CLOSE:
        raise colorize.ColorizeError(f"{output}: paints otherwise than the original; do not use it")
