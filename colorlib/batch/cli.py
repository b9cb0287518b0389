"""The command line of colorlib: its commands. What is slow to import waits its turn."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

import colorlib
from colorlib import files, notebooks
from colorlib.batch import speed

PROFILE = click.Choice(notebooks.PROFILES)
COLORIZE = "Colour photographs, with a trained notebook or after a reference."


class Commands(click.Group):
    """A group that imports `colorize` only when it is called, and says errors in one line."""

    def main(self, args: Any = None, *more: Any, **options: Any) -> Any:
        """Run the command line; a real one with the environment that is fast."""
        if args is None:
            speed.re_execute()
        return super().main(args, *more, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order of the day."""
        return [*self.commands, "colorize"]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import what colours photographs when it is called: it is slow."""
        if name == "colorize":
            return importlib.import_module("colorlib.colorize").command
        return super().get_command(ctx, name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing the slow one."""
        own = [(name, c.get_short_help_str(80)) for name, c in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl([*own, ("colorize", COLORIZE)])

    def invoke(self, ctx: click.Context) -> Any:
        """Turn every error that colorlib words itself into that text and exit status 2."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if not type(error).__module__.startswith("colorlib."):
                raise
            click.echo(f"colorlib: {error}", err=True)
            ctx.exit(2)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(colorlib.__version__, prog_name="colorlib")
def main() -> None:
    """Run, read and check five papers on colouring grey pictures."""


@main.command()
@click.argument("names", nargs=-1, metavar="[NOTEBOOK ...]")
@click.option("--studies", is_flag=True, help="Run the notebooks of studies, not the lessons.")
@click.option("--profile", type=PROFILE, default="laptop", show_default=True)
@click.option(
    "-p", "pairs", nargs=2, multiple=True, metavar="NAME VALUE", help="Set a parameter; repeatable."
)
@click.option(
    "--jobs", default=1, show_default=True, type=click.IntRange(1), help="Notebooks at a time."
)
@click.option("--force", is_flag=True, help="Run also what is unchanged.")
@click.option("--dry-run", is_flag=True, help="Only say what would run and what it takes.")
def run(names: tuple[str, ...], studies: bool, pairs: tuple, **options: Any) -> None:
    """Run notebooks (all lessons, or NOTEBOOK: "03" will do) and write their reports."""
    from colorlib.batch import run as runner

    kind = "studies" if studies else "lessons"
    runs = runner.run(names, parameters=dict(pairs), kind=kind, **options)
    rows = [
        (r.name, r.state, files.duration(r.seconds) if r.seconds else "-", r.note) for r in runs
    ]
    click.echo(columns([("notebook", "state", "time", ""), *rows]))
    bad, seconds = sum(not r.good for r in runs), sum(r.seconds for r in runs)
    click.echo(f"{len(runs)} notebooks, {bad} not done, {files.duration(seconds)} of running")
    reports = files.root() / "reports"
    if any(r.state == "finished" and reports in r.task.report.parents for r in runs):
        from colorlib.batch import pages, results

        results.render_claims(reports)
        click.echo(f"read them: {pages.render_index(reports)}")
    if bad:
        sys.exit(1)


@main.command()
def status() -> None:
    """List the reports: when they were made, and whether the code has moved on."""
    from colorlib.batch import stamps

    rows = [("notebook", "profile", "made", "code"), *stamps.status()]
    click.echo(columns(rows) if rows[1:] else "there is no report yet: colorlib run makes them")


@main.group(invoke_without_command=True)
@click.pass_context
def data(ctx: click.Context) -> None:
    """List the data sets; `colorlib data get NAME` downloads one."""
    if ctx.invoked_subcommand is None:
        from colorlib import datasets

        click.echo(columns([("data set", "here", "licence"), *datasets.status()]))


@data.command("get")
@click.argument("name")
def data_get(name: str) -> None:
    """Download the data set NAME, verify and unpack it."""
    from colorlib import downloads

    if name not in downloads.ARCHIVES:
        known = ", ".join(downloads.ARCHIVES)
        raise downloads.DatasetError(f"'{name}' is not a set to download; known: {known}")
    click.echo(f"{name}: {downloads.fetch(name)}")


@main.command()
@click.argument("names", nargs=-1, metavar="[NOTEBOOK ...]")
@click.option("--profile", type=PROFILE, default="laptop", show_default=True)
@click.option("--mine", default="", metavar="FOLDER", help="Where my run is, if not in reports/.")
@click.option("--against", default="HEAD", show_default=True, help="The commit to hold it against.")
def compare(names: tuple[str, ...], profile: str, mine: str, against: str) -> None:
    """Hold my runs against the committed ones, metric by metric."""
    from colorlib.batch import compare as comparing

    comparisons = comparing.compare(profile, names, mine, against)
    click.echo(comparing.table(comparisons))
    if not comparing.good(comparisons):
        sys.exit(1)


@main.command()
@click.option("-o", "--output", default="build/student", show_default=True, metavar="FOLDER")
def student(output: str) -> None:
    """Write the project without the exercises' solutions, to hand out."""
    from colorlib.batch import teaching

    click.echo(f"to hand out: {teaching.hand_out(output)}")


def columns(rows: list[tuple[str, ...]]) -> str:
    """Lay rows of text out in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
