"""Commands about traces as such: make, look at, check, convert."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evtsim.cli.command import whole
from evtsim.cli.output import (
    Force,
    HostFile,
    Json,
    count,
    duration,
    print_fields,
    print_json,
    print_table,
    progress,
    size,
)
from evtsim.cli.starting import simulator_at

if TYPE_CHECKING:
    from evtsim.trace import Trace, TraceReader

TraceFile = Annotated[
    str, typer.Argument(metavar="TRACE", help=".arrow, .parquet, .csv, .csv.gz, or - for CSV.")
]


def open_trace(path: str, host: str | None = None) -> Trace:
    """Open a trace, with a host file's host if one is given."""
    from evtsim.host import Host
    from evtsim.trace import Trace

    return Trace.load(path, host=None if host is None else Host.from_json(host))


def open_reader(path: str, host: str | None = None) -> TraceReader:
    """Open a trace to be read once, with a host file's host if one is given."""
    from evtsim.host import Host
    from evtsim.trace import TraceReader

    return TraceReader(path, host=None if host is None else Host.from_json(host))


def workloads(
    name: Annotated[str | None, typer.Argument(help="Show this one's parameters.")] = None,
    as_json: Json = False,
) -> None:
    """List the workloads, or the parameters of one."""
    from evtsim import workloads as registry

    if name is None:
        lines = {name: registry.describe(name) for name in registry.REGISTRY}
        if as_json:
            print_json(lines)
        else:
            print_table(["workload", "what it is"], lines.items())
        return
    workload = registry.workload(name)
    if as_json:
        parameters = {
            p.name: {"default": p.default, "unit": p.unit, "range": p.range, "what": p.what}
            for p in workload.parameters
        }
        print_json({"name": name, "what": workload.what, "parameters": parameters})
        return
    print(workload.what)
    print_table(
        ["parameter", "default", "unit", "range", "what it is"],
        [(p.name, p.default_text, p.unit, p.range, p.what) for p in workload.parameters],
    )


def generate(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[WORKLOAD] FILE",
            help="A workload ('evtsim workloads' lists them; else mixed), and the trace to write "
            "(- is CSV).",
            show_default=False,
        ),
    ],
    records: Annotated[
        str | None,
        typer.Option(
            "--records",
            "-n",
            metavar="N",
            help="The most: 500000, 1e6, 10M. 100000 if nothing is said.",
        ),
    ] = None,
    duration_ns: Annotated[
        str | None,
        typer.Option("--duration", metavar="TIME", help="The longest it lasts: 2s, 500ms, 1e9."),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", parser=whole(), help="Another seed, another trace.")
    ] = 0,
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="FILE", help="A host file, to run on that host."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="A checkpoint, or a log with a dump: load on the channels that it has, for "
            "'replay --from'.",
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter; repeatable."),
    ] = None,
    force: Force = False,
) -> None:
    """Generate a synthetic trace, of any length."""
    from evtsim import workloads as registry
    from evtsim.host import Host

    if len(words) > 2:
        raise typer.BadParameter(f"{words[2]!r} (expected [WORKLOAD] FILE)")
    *names, output = words
    name = names[0] if names else "mixed"
    values: dict[str, Any] = dict(parse_parameters(registry.parameters(name), parameter or []))
    if start is not None:
        values["start"] = simulator_at(start)[0].state
    with progress("generating") as shown:
        registry.write(
            output,
            name,
            host=None if host is None else Host.from_json(host),
            progress=shown,
            overwrite=force,
            records=None if records is None else count("--records", records),
            duration_ns=duration_ns,
            seed=seed,
            **values,
        )


OPTIONS = ("records", "duration_ns", "seed")
"""Parameters that have an option of their own."""


def parse_parameters(known: Iterable[str], given: list[str]) -> dict[str, str]:
    """Split NAME=VALUE; the workload reads the values."""
    names = [name for name in known if name not in OPTIONS]
    values = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or key not in names:
            raise typer.BadParameter(f"{text!r} (expected NAME=VALUE with {', '.join(names)})")
        values[key] = value
    return values


def info(trace: TraceFile, host: HostFile = None, as_json: Json = False) -> None:
    """Show a trace's size, time span, domains, host and op mix."""
    import numpy as np

    from evtsim import abi
    from evtsim.cli.sizes import needs_line
    from evtsim.trace.digest import Digest

    reader = open_reader(trace, host)
    ops: Any = np.zeros(65536, np.int64)
    doms: Any = np.zeros(65536, np.int64)
    digest = Digest()
    first = last = None
    records, recorded = 0, []
    for piece in reader:
        columns = piece.columns
        ops += np.bincount(columns.op, minlength=65536)
        doms += np.bincount(columns.dom, minlength=65536)
        digest.update(columns)
        if first is None:
            first = int(columns.ts[0])
            recorded = [n for n, _ in piece.recorded.fields()] if piece.recorded else []
        last = int(columns.ts[-1])
        records += len(piece)
    span = 0 if first is None or last is None else last - first
    needs, needed = needs_line(trace, records, reader.host)
    facts: dict[str, Any] = {
        "records": records,
        "bytes": 24 * records,
        "first_ts": first,
        "last_ts": last,
        "calling_domains": int(np.count_nonzero(doms)),
        "host": repr(reader.host).strip("<>").removeprefix("Host "),
        "recorded": recorded,
        "digest": digest.of(reader.host),
        "meta": reader.meta,
        "replay": needed,
    }
    mix = {abi.op_name(int(n)): int(ops[n]) for n in np.argsort(-ops, kind="stable") if ops[n]}
    if as_json:
        print_json({**facts, "operations": mix})
        return
    rate = f", {records / span * 1e9:,.4g} records a second" if span else ""
    print_fields(
        {
            "records": records,
            "columns": size(24 * records),
            "time span": duration(span) + rate,
            "calling domains": facts["calling_domains"],
            "host": facts["host"],
            "recorded": ", ".join(recorded) or "nothing",
            "digest": facts["digest"],
            "made by": json.dumps(reader.meta) if reader.meta else "unknown",
            "to replay": needs,
        }
    )
    print()
    share = 100 / max(1, records)
    print_table(["operation", "records", "%"], [(name, n, n * share) for name, n in mix.items()])


def validate(
    trace: TraceFile,
    host: HostFile = None,
    strict: Annotated[bool, typer.Option("--strict", help="Notes are errors too.")] = False,
    as_json: Json = False,
) -> int:
    """Check a trace before it is replayed.

    Errors keep it from being replayed. Notes are records that Xen answers with an errno
    whatever its state; they are replayed like any other.
    """
    result = open_trace(trace, host).validate()
    if as_json:
        print_json(result.to_dict())
    elif result.errors:
        raise result.errors[0]
    else:
        print(f"{trace}: {result.records:,} records, no errors, {len(result.notes)} notes")
        for note in result.notes:
            print(f"  note: {note}")
    return 2 if result.errors or (strict and result.notes) else 0


def convert(
    trace: TraceFile,
    output: Annotated[str, typer.Argument(metavar="FILE", help="By its suffix; - is CSV.")],
    host: HostFile = None,
    force: Force = False,
) -> None:
    """Write a trace in another format, or with another host."""
    open_trace(trace, host).save(output, overwrite=force)


COMMANDS = (info, validate, convert, workloads, generate)
