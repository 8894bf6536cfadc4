"""The commands together."""

from __future__ import annotations

from typing import Annotated

import typer

from evtsim import __version__
from evtsim.cli import (
    caches,
    dumps,
    exporting,
    fleet,
    history,
    hosts,
    observing,
    replays,
    reports,
    sweeps,
    traces,
)
from evtsim.cli.command import Command

app = typer.Typer(
    name="evtsim",
    help="Replay traces of Xen event-channel hypercalls, exactly as Xen would answer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        print(f"evtsim {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Replay traces of Xen event-channel hypercalls, exactly as Xen would answer."""


for command in (
    *(reports.demo, *replays.COMMANDS, reports.report, *history.COMMANDS),
    *(fleet.fleet, sweeps.sweep, *traces.COMMANDS),
    *(dumps.inspect, *exporting.COMMANDS, *observing.COMMANDS),
):
    app.command(cls=Command)(command)
app.add_typer(hosts.app, name="host")
app.add_typer(caches.app, name="cache")
