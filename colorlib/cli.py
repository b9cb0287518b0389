"""The command line of colorlib: its commands. What is slow to import waits its turn."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, ClassVar

import click

import colorlib
from colorlib import files, notebooks

PROFILE = click.Choice(notebooks.PROFILES)


class LazyGroup(click.Group):
    """A group that imports some commands only when they are called, and says errors in one line."""

    lazy: ClassVar = {
        "colorize": (
            "colorlib.colorize",
            "Colour photographs, with a trained notebook or after a reference.",
        )
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order of the day, the lazy ones last."""
        return [*self.commands, *self.lazy]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the module of a lazy command and take its `command`."""
        if name in self.lazy:
            return importlib.import_module(self.lazy[name][0]).command
        return super().get_command(ctx, name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing the lazy ones."""
        own = [(name, c.get_short_help_str(80)) for name, c in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl([*own, *((name, text) for name, (_, text) in self.lazy.items())])

    def invoke(self, ctx: click.Context) -> Any:
        """Turn every error that colorlib words itself into that text and exit status 2."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if not type(error).__module__.startswith("colorlib."):
                raise
            click.echo(f"colorlib: {error}", err=True)
            ctx.exit(2)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(colorlib.__version__, prog_name="colorlib")
def main() -> None:
    """Run, read and check five papers on colouring grey pictures."""


@main.command()
@click.argument("names", nargs=-1, metavar="[NOTEBOOK ...]")
@click.option("--profile", type=PROFILE, default="laptop", show_default=True)
@click.option(
    "-p", "pairs", nargs=2, multiple=True, metavar="NAME VALUE", help="Set a parameter; repeatable."
)
@click.option(
    "--jobs", default=1, show_default=True, type=click.IntRange(1), help="Notebooks at a time."
)
@click.option("--force", is_flag=True, help="Run also what is unchanged.")
@click.option("--dry-run", is_flag=True, help="Only say what would run and what it takes.")
def run(
    names: tuple[str, ...],
    profile: str,
    pairs: tuple[tuple[str, str], ...],
    jobs: int,
    force: bool,
    dry_run: bool,
) -> None:
    """Run notebooks (all, or NOTEBOOK: "03" will do) and write their reports."""
    from colorlib import reproduce

    outcomes = reproduce.run(names, profile, dict(pairs), jobs, force, dry_run)
    click.echo(reproduce.table(outcomes))
    reports = files.root() / "reports"
    made = [Path(outcome.report) for outcome in outcomes if outcome.state == "finished"]
    if any(reports in report.parents for report in made):
        from colorlib import ledger, pages

        ledger.render(reports)
        click.echo(f"read them: {pages.render_index(reports)}")
    if not all(outcome.good for outcome in outcomes):
        sys.exit(1)


@main.command()
def status() -> None:
    """List the reports: their age, and whether the code has moved on."""
    from colorlib import reproduce

    rows = [("notebook", "profile", "made", "age", "code"), *reproduce.status()]
    click.echo(
        reproduce.columns(rows) if rows[1:] else "there is no report yet: colorlib run makes them"
    )


@main.group(invoke_without_command=True)
@click.pass_context
def data(ctx: click.Context) -> None:
    """List the data sets; `colorlib data get NAME` downloads one."""
    if ctx.invoked_subcommand is None:
        click.echo(_data_table())


@data.command("get")
@click.argument("name")
def data_get(name: str) -> None:
    """Download the data set NAME, verify and unpack it."""
    from colorlib import downloads

    if name not in downloads.ARCHIVES:
        known = ", ".join(downloads.ARCHIVES)
        raise downloads.DatasetError(f"'{name}' is not a set to download; known: {known}")
    click.echo(f"{name}: {downloads.fetch(name)}")


def _data_table() -> str:
    from colorlib import datasets, reproduce

    rows = [("data set", "here", "pictures", "MB", "licence", "")]
    for s in datasets.status():
        size = f"{s.bytes / 1e6:.0f}" if s.bytes else "-"
        rows.append((s.name, "yes" if s.present else "no", str(s.pictures), size, s.licence, s.how))
    return reproduce.columns(rows)


@main.command()
@click.argument("names", nargs=-1, metavar="[NOTEBOOK ...]")
@click.option("--profile", type=PROFILE, default="laptop", show_default=True)
@click.option("--mine", default="", metavar="FOLDER", help="Where my run is, if not in reports/.")
@click.option("--against", default="HEAD", show_default=True, help="The commit to hold it against.")
@click.option("--tolerances", "show", is_flag=True, help="Only print the tolerances, with reasons.")
def compare(names: tuple[str, ...], profile: str, mine: str, against: str, show: bool) -> None:
    """Hold my runs against the committed ones, metric by metric."""
    from colorlib import compare as comparing

    if show:
        click.echo(comparing.tolerances())
        return
    comparisons = comparing.compare(profile, names, mine, against)
    click.echo(comparing.table(comparisons))
    if not comparing.good(comparisons):
        sys.exit(1)


@main.command()
@click.option("-o", "--output", default="build/student", show_default=True, metavar="FOLDER")
def student(output: str) -> None:
    """Write the project without the exercises' solutions, to hand out."""
    from colorlib import teaching

    click.echo(f"to hand out: {teaching.hand_out(output)}")


if __name__ == "__main__":
    main()
