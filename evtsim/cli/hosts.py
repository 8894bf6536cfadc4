"""``evtsim host``: print or make a host file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from evtsim import abi
from evtsim.cli.command import Command, whole
from evtsim.cli.output import Force, Json, print_json, print_table

if TYPE_CHECKING:
    from evtsim.host import Host

app = typer.Typer(help="Print or make a host file.", no_args_is_help=True)

Output = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FILE", help="Write a host file here.")
]


def emit(host: Host, output: str | None, force: bool, as_json: bool) -> None:
    """Write a host file, or print the host."""
    if output not in (None, "-"):
        assert output is not None
        host.to_json(output, overwrite=force)
    elif as_json or output == "-":
        print_json(host.to_dict())
    else:
        first = 0
        rows = []
        for run in host.to_dict()["domains"]:
            last = first + run.get("count", 1) - 1
            fields = [str(host.domains[first][name]) for name in host.domains.dtype.names or ()]
            rows.append([f"{first}" if first == last else f"{first}-{last}", *fields])
            first = last + 1
        print(host.profile)
        print_table(["dom", *(host.domains.dtype.names or ())], rows)


@app.command(cls=Command)
def show(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A host file (.json) or a trace.")],
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Print the host of a host file or of a trace."""
    from evtsim.host import Host
    from evtsim.trace import Trace

    host = Host.from_json(file) if file.endswith(".json") else Trace.load(file).require_host()
    emit(host, output, force, as_json)


@app.command(cls=Command)
def infer(
    trace: Annotated[str, typer.Argument(metavar="TRACE")],
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Guess the host from a trace's records.

    As many domains, vcpus and PIRQs as the records ask for; all 64-bit; dom0 privileged.
    """
    from evtsim.host import Host
    from evtsim.trace import Trace

    emit(Host.infer(Trace.load(trace)), output, force, as_json)


@app.command(cls=Command)
def uniform(
    domains: Annotated[
        int,
        typer.Argument(
            metavar="DOMAINS", parser=whole(1, abi.MAX_DOMAINS), help="How many, dom0 included."
        ),
    ],
    vcpus: Annotated[int, typer.Option(metavar="N", parser=whole(), help="Of each domain.")] = 1,
    word_bits: Annotated[int, typer.Option(metavar="N", parser=whole(), help="32 or 64.")] = 64,
    profile: Annotated[
        str, typer.Option(metavar="NAME", help=f"Version of Xen: {' or '.join(abi.PROFILES)}.")
    ] = "xen-4.0",
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make a host of equal domains, of which dom0 is privileged."""
    from evtsim.host import Host

    host = Host.uniform(domains, profile=profile, vcpus=vcpus, word_bits=word_bits)
    emit(host, output, force, as_json)
