"""Commands that read what tracers of real hosts saw: xentrace, ftrace."""

from __future__ import annotations

import contextlib
import re
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evtsim.cli.frames import (
    SHOWN_ROWS,
    Csv,
    Parquet,
    Rows,
    check_tables,
    plain_rows,
    write_tables,
)
from evtsim.cli.output import Force, Json, duration, print_fields, print_json, print_table

if TYPE_CHECKING:
    import pandas as pd

BARS = " ▁▂▃▄▅▆▇█"
STRETCHES = 32

Fit = Annotated[
    bool, typer.Option("--fit", help="Estimate the parameters of workloads that look alike.")
]


def xentrace(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What xentrace wrote.")],
    hz: Annotated[
        str,
        typer.Option(metavar="HZ", help="Clock rate of the host's TSC, which the file lacks."),
    ] = "2.4G",
    idle: Annotated[bool, typer.Option("--idle", help="Keep the idle domain too.")] = False,
    fit: Fit = False,
    csv: Csv = None,
    parquet: Parquet = None,
    rows: Rows = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Sum up a xentrace file: calls and upcalls of every vcpu, wake-ups, gaps.

    xentrace says that event channels were used, and not which: this cannot be replayed.
    --csv and --parquet have all that was seen, a row each; --rows is of the sums.
    """
    from evtsim.interop import xentrace as reader

    check_tables(csv, parquet, as_json, force)
    with warnings_told():
        frame = reader.read(file, hertz(hz), idle=idle)
    write_tables(frame, csv, parquet, force)
    if csv != "-":
        report(frame, as_json, rows, fit)


def ftrace(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Text of ftrace or trace-cmd.")],
    fit: Fit = False,
    csv: Csv = None,
    parquet: Parquet = None,
    rows: Rows = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Sum up an ftrace log of KVM's Xen hypercalls: calls of every vcpu by operation.

    The log says which operation was called, and not on which port: this cannot be replayed.
    --csv and --parquet have all that was seen, a row each; --rows is of the sums.
    """
    from evtsim.interop import ftrace as reader

    check_tables(csv, parquet, as_json, force)
    frame = reader.read(file)
    write_tables(frame, csv, parquet, force)
    if csv != "-":
        report(frame, as_json, rows, fit)


def hertz(text: str) -> float:
    """Read a clock rate: 2.4G, 2400M, 2.4GHz, 2.4e9."""
    match = re.fullmatch(r"([\d.]+(?:e\d+)?)\s*([kMG]?)(?:Hz)?", text.strip(), re.IGNORECASE)
    try:
        number = float(match[1]) if match else float("nan")
    except ValueError:
        match = None
    if match is None:
        raise typer.BadParameter(f"--hz is {text!r} (expected a clock rate like 2.4G)")
    return number * {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}[match[2].lower()]


@contextlib.contextmanager
def warnings_told() -> Iterator[None]:
    """Show what is warned of within as a line of this program's."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        print(f"evtsim: warning: {warning.message}", file=sys.stderr)


def report(frame: pd.DataFrame, as_json: bool, rows: int | None, fit: bool) -> None:
    """Print what the observations tell."""
    from evtsim.interop import observations as o

    fitted = estimates_of(frame) if fit else {}
    kinds = {name: int(n) for name, n in frame["kind"].value_counts().items() if n}
    latencies, gaps = o.wake_latency(frame), o.gaps(frame)
    if as_json:
        tables = {
            "vcpus": o.per_vcpu(frame),
            "operations": o.by_operation(frame),
            "timeline": o.over_time(frame),
            "wake_latency_ns": o.percentiles(latencies),
            "gaps": gaps,
        }
        data = {name: plain_rows(table, rows, digits=6) for name, table in tables.items()}
        estimates = {"estimates": fitted} if fit else {}
        print_json({"span_ns": o.span_ns(frame), "kinds": kinds, **data, **estimates})
        return
    lost = f"{int(gaps['records'].sum()):,} in {len(gaps):,} gaps" if len(gaps) else "none"
    print_fields(
        {
            "time span": duration(o.span_ns(frame)),
            "rows": ", ".join(f"{name} {n:,}" for name, n in kinds.items()) or "none",
            "records lost": lost,
        }
    )
    most = SHOWN_ROWS if rows is None else rows
    print_vcpus(o.per_vcpu(frame), o.over_time(frame, STRETCHES), most)
    print_operations(o.by_operation(frame), most)
    print_latencies(o.percentiles(latencies), most)
    print_gaps(gaps, most)
    print_estimates(fitted)


def estimates_of(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Fit the workloads, whose import takes a while."""
    from evtsim import workloads

    return workloads.fit(frame)


def print_some(names: list[str], rows: list[list[Any]], total: int) -> None:
    """Print the first rows of a table, and how many there are besides."""
    if not total:
        return
    print()
    print_table(names, rows)
    if total > len(rows):
        print(f"… {total - len(rows):,} more rows (--rows or --json show them)")


def print_vcpus(table: pd.DataFrame, timeline: pd.DataFrame, most: int) -> None:
    """Print what each vcpu did, the busiest first, with its calls and upcalls over time."""
    table = table[table["calls"] + table["upcalls"] + table["wakes"] + table["runs"] > 0]
    order = (-(table["calls"] + table["upcalls"])).to_numpy().argsort(kind="stable")
    names = ["dom", "vcpu", "calls", "upcalls", "wakes", "runs", "calls_per_s", "upcalls_per_s"]
    busiest = table.iloc[order][names].astype(object).to_numpy().tolist()
    rows = [[str(dom), *row, course(timeline, dom, row[0])] for dom, *row in busiest[:most]]
    heads = [*(name.replace("_per_", "/") for name in names), "over time"]
    print_some(heads, rows, len(busiest))


def course(timeline: pd.DataFrame, dom: int, vcpu: int) -> str:
    """Draw how much a vcpu called and was called over time, in characters."""
    if not len(timeline):
        return ""
    mine = timeline[(timeline["dom"] == dom) & (timeline["vcpu"] == vcpu)]
    width = int(timeline["width_ns"].iloc[0])
    counts = [0] * (int(timeline["start_ns"].max()) // width + 1)
    for start, calls, upcalls in mine[["start_ns", "calls", "upcalls"]].to_numpy().tolist():
        counts[start // width] += calls + upcalls
    highest = max(*counts, 1)
    return "".join(BARS[-(-n * (len(BARS) - 1) // highest)] for n in counts)


def print_operations(table: pd.DataFrame, most: int) -> None:
    """Print calls by sub-operation, where these were recorded."""
    if (table["op"] < 0).all():
        return
    columns = ["dom", "vcpu", "op_name", "calls"]
    table = table.sort_values("calls", ascending=False, kind="stable")[columns]
    rows = table.head(most).astype({"dom": str}).astype(object).to_numpy().tolist()
    print_some(["dom", "vcpu", "operation", "calls"], rows, len(table))


def print_latencies(table: pd.DataFrame, most: int) -> None:
    """Print how long vcpus took from a wake until they ran."""
    names = ["p50", "p90", "p99", "p99.9", "max"]
    rows = [
        [str(row[0]), *row[1:3], *(duration(ns) for ns in row[3:])]
        for row in table.head(most)[["dom", "vcpu", "wakes", *names]].to_numpy().tolist()
    ]
    print_some(["wake to run: dom", "vcpu", "wakes", *names], rows, len(table))


def print_gaps(table: pd.DataFrame, most: int) -> None:
    """Print where records were lost."""
    rows = [
        [cpu, duration(start), duration(end - start), records]
        for cpu, start, end, records in table.head(most).to_numpy().tolist()
    ]
    print_some(["gap: pcpu", "from", "length", "records lost"], rows, len(table))


def print_estimates(fitted: dict[str, dict[str, Any]]) -> None:
    """Print commands that generate what looks like the observations."""
    if fitted:
        print("\nestimates, each as if all that was seen were of its kind:")
    for name, parameters in fitted.items():
        options = " ".join(
            f"-p {key}={f'{value:.6g}' if isinstance(value, float) else value}"
            for key, value in parameters.items()
        )
        print(f"evtsim generate {name} {name}.arrow {options}")


COMMANDS = (xentrace, ftrace)
