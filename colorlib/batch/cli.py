"""The command line of colorlib. What is slow to import waits until it is needed."""

import contextlib
import importlib
import re
import sys
from typing import Any

import click

import colorlib
from colorlib import files, notebooks
from colorlib.batch import speed

PROFILE = click.option(
    "--profile", type=click.Choice(notebooks.PROFILES), default="laptop", show_default=True
)


class Commands(click.Group):
    """A group that says errors in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Turn what colorlib words itself, or names its file, into a line and exit status 2."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if not getattr(error, "filename", type(error).__module__.startswith("colorlib.")):
                raise
            click.echo(f"colorlib: {error}", err=True)
            ctx.exit(2)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(colorlib.__version__, prog_name="colorlib")
def main() -> None:
    """Run, read and check five papers on colouring grey pictures."""
    speed.re_execute()


@main.command()
@click.argument("names", nargs=-1, metavar="[NOTEBOOK ...]")
@click.option("--studies", is_flag=True, help="Run the notebooks of studies, not the lessons.")
@PROFILE
@click.option(
    "-p", "pairs", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter; twice: both."
)
@click.option("--seeds", callback=lambda *told: _seeds(told[-1]), help="Several: 0-4, or 0,3,7.")
@click.option("--jobs", default=1, type=click.IntRange(1), help="Notebooks at a time, here.")
@click.option("--cluster", metavar="ADDRESS", help="Where: tcp://HOST:PORT of dask, or local:N.")
@click.option("--force", is_flag=True, help="Run also what is unchanged.")
@click.option("--dry-run", is_flag=True, help="Only say what would run and what it takes.")
def run(
    names: tuple[str, ...], studies: bool, pairs: tuple, seeds: list, cluster: str, **options: Any
) -> None:
    """Run notebooks (all lessons, or NOTEBOOK: "03" will do) and write their reports."""
    from colorlib.batch import run as runner

    given: dict[str, list[str]] = {}
    for name, value in [*pairs, *(("seed", seed) for seed in seeds)]:
        given.setdefault(name, []).append(value)
    vary = {k: each for k, each in given.items() if len(each) > 1 or (seeds and k == "seed")}
    fixed = {name: each[0] for name, each in given.items() if name not in vary}
    connected = contextlib.nullcontext()
    if cluster and not options["dry_run"]:
        from colorlib.batch import cluster as many

        connected = many.connect(cluster)
    kind = "studies" if studies else "lessons"
    with connected as make:
        runs = runner.run(names, parameters=fixed, kind=kind, vary=vary, make=make, **options)
    rows = [(r.task.title, r.state, files.duration(r.seconds), r.note) for r in runs]
    show(("notebook", "state", "time", ""), rows)
    if vary and not options["dry_run"]:
        from colorlib.batch.compare import summarize

        scores = ("gain over grey, dB", "CIEDE2000")
        show(("notebook", "parameters", "seeds", *scores), summarize(runs))
    reports = files.root() / "reports"
    if any(r.state == "finished" and reports in r.task.report.parents for r in runs):
        from colorlib.batch import pages, results

        results.render(reports)
        click.echo(f"read them: {pages.render_index(reports)}")
    if not all(r.good for r in runs):
        sys.exit(1)


@main.command()
def status() -> None:
    """List the reports: when they were made, and whether the code has moved on."""
    from colorlib.batch import stamps

    show(("notebook", "profile", "made", "code"), stamps.status())


@main.command()
def data() -> None:
    """List the data sets; one that is not here is downloaded by its first use."""
    from colorlib import datasets

    show(("data set", "here", "licence"), datasets.status())


@main.command()
@click.argument("names", nargs=-1, metavar="[NOTEBOOK ...]")
@PROFILE
@click.option("--against", default="HEAD", show_default=True, help="The commit to hold it against.")
def compare(names: tuple[str, ...], profile: str, against: str) -> None:
    """Hold my runs against the committed ones, metric by metric."""
    from colorlib.batch import compare as comparing

    comparisons = comparing.compare(profile, names, against)
    show(("notebook", "verdict", ""), comparisons)
    sys.exit(not comparing.good(comparisons))


def passed_on(name: str, about: str) -> click.Command:
    """Return a command that is another module's, which is imported when it is called."""

    def call(ctx: click.Context, words: tuple[str, ...]) -> None:
        command = importlib.import_module(f"colorlib.{name}").command
        with command.make_context(name, list(words), parent=ctx.parent) as own:
            command.invoke(own)

    given = [click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)]
    odd, callback = {"ignore_unknown_options": True}, click.pass_context(call)
    return click.Command(name, odd, callback, given, help=about, add_help_option=False)


main.add_command(passed_on("colorize", "Colour photographs, by a trained notebook or a reference."))
main.add_command(passed_on("export", "Write a trained network as an ONNX file."))


@main.command()
@click.option("-o", "--output", default="build/student", show_default=True, metavar="FOLDER")
def student(output: str) -> None:
    """Write the project without the exercises' solutions, to hand out."""
    from colorlib.batch import teaching

    click.echo(f"to hand out: {teaching.hand_out(output)}")


def _seeds(text: str | None) -> list[str]:
    found = []
    for part in text.split(",") if text else ():
        ends = re.fullmatch(r" *(\d+)(?:-(\d+))? *", part)
        some = range(int(ends[1]), int(ends[2] or ends[1]) + 1) if ends else ()
        if not 0 < len(some) < 1000:
            raise click.BadParameter(f"{text!r}; write 0-4, or 0,3,7")
        found += map(str, some)
    return found


def show(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())
