"""``evtsim sweep``: one trace under many guests."""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import typer

from evtsim.cli.fleet import Scheduler, Workers, cluster_of
from evtsim.cli.frames import Csv, Parquet, check_tables, write_tables
from evtsim.cli.guests import MAX_SEED, duration, end_of_interrupt
from evtsim.cli.output import Force, HostFile, Json, print_json, print_table, progress
from evtsim.cli.traces import TraceFile

PICTURES = (".png", ".svg", ".pdf")


def sweep(
    trace: TraceFile,
    wake: Annotated[
        str | None,
        typer.Option("--wake", metavar="TIMES", help="From a kick to the handler: 1us,2us,exp:5us"),
    ] = None,
    handler: Annotated[
        str | None,
        typer.Option("--handler", metavar="TIMES", help="Handling one event: 300ns,1us"),
    ] = None,
    eoi: Annotated[
        str | None, typer.Option("--eoi", metavar="WHEN", help="edge,late,late:5us")
    ] = None,
    scan: Annotated[
        str | None, typer.Option("--scan", "--guest", metavar="SCANS", help="linux,lowest")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option("--guest-seed", metavar="SEEDS", help="Of the guest's random times: 1,2,3"),
    ] = None,
    host: HostFile = None,
    csv: Csv = None,
    parquet: Parquet = None,
    plot: Annotated[
        str | None,
        typer.Option(metavar="FILE", help=f"Draw it ({', '.join(PICTURES)})."),
    ] = None,
    y: Annotated[
        str, typer.Option("--y", metavar="COLUMN", help="What --plot draws: p99_ns, kicks, …")
    ] = "coalesced_share",
    x: Annotated[
        str | None,
        typer.Option("--x", metavar="COLUMN", help="Over what, if not the first: handler_ns, …"),
    ] = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Replay a trace under every combination of guests' parameters, on a cluster.

    Each option takes one value or several, with commas between them.
    """
    from evtsim._files import check_target
    from evtsim.analysis import sweep as sweep_trace
    from evtsim.cluster import cores
    from evtsim.errors import EvtsimError
    from evtsim.host import Host
    from evtsim.trace import Trace

    settings = combinations(wake, handler, eoi, scan, seeds)
    check_tables(csv, parquet, as_json, force)
    if plot is not None:
        check_target(plot, overwrite=force, suffixes=PICTURES)
    if trace == "-":
        raise EvtsimError("-: several workers read the trace (expected a file)")
    of = None if host is None else Host.from_json(host)
    check_columns(settings, x, y)
    Trace.load(trace, of).require_host()  # which says what is wrong before a cluster is made
    cluster = cluster_of(scheduler, workers) or cores()
    with progress("sweeping", "settings") as shown:
        frame = sweep_trace(trace, settings, progress=shown, client=cluster, host=of)
    write_tables(frame, csv, parquet, force)
    if plot is not None:
        draw(plot, frame, x, y, force)
    if as_json:
        plain = frame.astype(object)
        print_json(plain.where(plain.notna(), None).to_dict("records"))
    elif csv != "-":
        print_table(list(map(str, frame)), frame.astype(object).itertuples(index=False))


def combinations(
    wake: str | None, handler: str | None, eoi: str | None, scan: str | None, seeds: str | None
) -> list[dict[str, Any]]:
    """Return every combination of the values given, as fields of a guest."""
    from evtsim.guest import SCANS, Constant

    def time(option: str, text: str) -> Any:
        value = duration(option, text)
        return value.ns if isinstance(value, Constant) else value

    axes: list[list[dict[str, Any]]] = []
    for option, name, texts in (("--wake", "wake_ns", wake), ("--handler", "handler_ns", handler)):
        if texts is not None:
            axes.append([{name: time(option, text)} for text in texts.split(",")])
    if eoi is not None:
        ends = [end_of_interrupt(text.strip()) for text in eoi.split(",")]
        if not any(end["eoi_ns"] for end in ends):
            ends = [{"eoi": end["eoi"]} for end in ends]
        axes.append(ends)
    if scan is not None:
        scans = [text.strip() for text in scan.split(",")]
        for text in scans:
            if text not in SCANS:
                raise typer.BadParameter(f"--scan is {text!r} (expected {' or '.join(SCANS)})")
        axes.append([{"scan": text} for text in scans])
    if seeds is not None:
        words = [text.strip() for text in seeds.split(",")]
        if not all(text.isdecimal() and int(text) <= MAX_SEED for text in words):
            raise typer.BadParameter(f"--guest-seed is {seeds!r} (expected 1,2,3)")
        axes.append([{"seed": int(text)} for text in words])
    if not axes:
        raise typer.BadParameter("nothing to vary (expected --wake, --handler, --eoi or --scan)")
    return [
        {name: value for field in fields for name, value in field.items()}
        for fields in itertools.product(*axes)
    ]


def check_columns(settings: list[dict[str, Any]], x: str | None, y: str) -> None:
    """Raise an error now, and not after the work, if the plot's columns do not exist."""
    from evtsim.analysis.sweeping import MEASURED
    from evtsim.errors import EvtsimError

    for option, value, known in (("--x", x, [*settings[0]]), ("--y", y, [*MEASURED])):
        if value is not None and value not in known:
            raise EvtsimError(f"{option} is {value!r} (expected one of: {', '.join(known)})")


def draw(path: str, frame: Any, x: str | None, y: str, force: bool) -> None:
    """Write a plot of a sweep."""
    from matplotlib.figure import Figure

    from evtsim import plots
    from evtsim._files import written_whole

    figure = Figure(figsize=(7.5, 4), layout="constrained")
    plots.sweep(frame, y, x, figure.subplots())
    with written_whole(path, overwrite=force) as temporary:
        figure.savefig(temporary, dpi=150)
