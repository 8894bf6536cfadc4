"""``evtsim fleet``: many hosts on a Dask cluster."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evtsim.cli.command import whole
from evtsim.cli.frames import Csv, Parquet, check_tables, write_tables
from evtsim.cli.guests import Drain, with_guest
from evtsim.cli.output import Force, HostFile, Json, print_fields, print_json, print_table, progress
from evtsim.cli.summary import print_types
from evtsim.cli.traces import parse_parameters

if TYPE_CHECKING:
    from evtsim.fleet import Fleet, Synthetic

SHOWN_HOSTS = 10

Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Of a Dask cluster that runs: tcp://host:8786. Else this machine's cores are used.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", metavar="N", parser=whole(1), help="Processes here, if not all cores."
    ),
]


@with_guest
def fleet(
    traces: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TRACE...",
            help="Traces, each a host's: paths or patterns ('traces/*.arrow').",
            show_default=False,
        ),
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Generate hosts of this workload, too."),
    ] = None,
    seeds: Annotated[
        str, typer.Option(metavar="SEEDS", help="Of --workload, a host each: 0-99 or 3,7,20-29.")
    ] = "0",
    records: Annotated[
        str | None,
        typer.Option("--records", "-n", metavar="N", help="Of --workload, a host: 1e6, 10M."),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="Of --workload; repeatable."),
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep every host's run here; started again, hosts that are there are skipped.",
        ),
    ] = None,
    stats: Annotated[
        str,
        typer.Option(metavar="LEVEL", help="What to count: domain, port (with --save), none."),
    ] = "domain",
    host: HostFile = None,
    guest: Any = None,
    drain: Drain = False,
    retries: Annotated[
        int,
        typer.Option(
            metavar="N",
            parser=whole(),
            help="Of a host that failed for another reason than its input.",
        ),
    ] = 2,
    scheduler: Scheduler = None,
    workers: Workers = None,
    csv: Csv = None,
    parquet: Parquet = None,
    force: Force = False,
    as_json: Json = False,
) -> int:
    """Replay many traces, each a host, on a cluster, and sum them up.

    --csv and --parquet have a row for every host.
    Exit status 1 if a host failed; it is named, and the others are there.
    """
    from evtsim.errors import EvtsimError
    from evtsim.fleet import replay
    from evtsim.host import Host

    if stats not in ("port", "domain", "none"):
        raise EvtsimError(f"--stats is {stats!r} (expected port, domain or none)")
    if drain and guest is None:
        raise EvtsimError("--drain lets guests go on (add --guest linux)")
    if stats == "port" and save is None:
        raise EvtsimError("--stats port: counts of ports are kept with --save only (add it)")
    check_tables(csv, parquet, as_json, force)
    specs = [*(traces or ()), *synthetic(workload, seeds, records, parameter or [])]
    before = time.perf_counter()
    with progress("replaying", "hosts") as shown:
        done = replay(
            specs,
            guest,
            None if stats == "none" else stats,
            client=cluster_of(scheduler, workers),
            save=save,
            retries=retries,
            progress=shown,
            host=None if host is None else Host.from_json(host),
            drain=drain,
            overwrite=force,
        )
    seconds = time.perf_counter() - before
    write_tables(done.hosts, csv, parquet, force)
    if as_json:
        print_json(as_data(done, guest))
    elif csv != "-":
        print_fleet(done, guest, seconds)
    sys.stdout.flush()
    for name, why in done.failed.items():
        print(f"evtsim: {name} failed: {why}", file=sys.stderr)
    return 1 if done.failed else 0


def cluster_of(scheduler: str | None, workers: int | None) -> str | int | None:
    """Return what --scheduler or --workers asks for, as functions that take a client want it."""
    if workers is not None and scheduler is not None:
        raise typer.BadParameter("--workers is of a cluster made here (expected no --scheduler)")
    return scheduler if workers is None else workers


def synthetic(
    workload: str | None, seeds: str, records: str | None, parameter: list[str]
) -> list[Synthetic]:
    """Make the hosts that --workload asks for."""
    if workload is None:
        for option, value in (("--records", records), ("--parameter", parameter)):
            if value:
                raise typer.BadParameter(f"{option} is of generated hosts: add --workload mixed")
        return []
    from evtsim import workloads
    from evtsim.fleet import Synthetic

    values: dict[str, Any] = dict(parse_parameters(workloads.parameters(workload), parameter))
    if records is not None:
        values["records"] = records
    return [Synthetic(workload, seed, values) for seed in numbers(seeds)]


def numbers(text: str) -> list[int]:
    """Read 0-99 or 3,7,20-29."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,18})(?:-(\d{1,18}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < first + 1_000_000:
            raise typer.BadParameter(f"--seeds is {text!r} (expected 0-99 or 3,7,20-29)")
        found += range(first, last + 1)
    return list(dict.fromkeys(found))


# Printing ----------------------------------------------------------------------------------------


def as_data(fleet: Fleet, guest: Any) -> dict[str, Any]:
    """Return a fleet as plain data."""
    hosts = fleet.hosts.astype(object)
    return {
        "totals": fleet.totals(),
        "kept": fleet.kept,
        "guest": guest.to_dict() if guest else None,
        "vcpus": fleet.vcpu_totals(),
        "types": fleet.types(),
        "operations": operation_rows(fleet),
        "hosts": hosts.where(hosts.notna(), None).to_dict("records"),
        "failed": fleet.failed,
    }


def operation_rows(fleet: Fleet) -> list[dict[str, Any]]:
    """Return how often which operation gave which answer, the commonest first."""
    frame = fleet.operations.sort_values("records", ascending=False, kind="stable")
    columns = frame[["op_name", "errno_name", "records"]].itertuples(index=False)
    return [{"operation": op, "errno": errno or "-", "records": n} for op, errno, n in columns]


def print_fleet(fleet: Fleet, guest: Any, seconds: float) -> None:
    """Print sums, types of channels, hosts and operations."""
    from evtsim.abi import Effect

    totals, vcpus = fleet.totals(), fleet.vcpu_totals()
    there = f", of them {fleet.kept:,} from an earlier run" if fleet.kept else ""
    failed = f", {totals['failed']:,} failed" if fleet.failed else ""
    fields: dict[str, object] = {"hosts": f"{totals['hosts']:,} replayed{there}{failed}"}
    if totals["hosts"]:
        names = [str(effect.name).lower() for effect in Effect]
        effects = ", ".join(f"{name} {totals[name]:,}" for name in names if totals[name])
        fields |= {
            "records": f"{totals['records']:,} in {seconds:.2f} s",
            "errors": totals["errors"],
            "delivered": totals["delivered"],
            "effects": effects or "none",
        }
    if guest:
        fields["guest"] = repr(guest)
    if vcpus:
        fields["vcpus"] = (
            f"kicks {vcpus['kicks']:,}, upcalls {vcpus['upcalls']:,}, of them spurious "
            f"{vcpus['spurious']:,}, largest batch {vcpus['largest_batch']:,}"
        )
        fields["still pending"] = f"{vcpus['pending']:,} ports"
    if guest and vcpus.get("ignored_upcalls"):
        fields["ignored"] = f"{vcpus['ignored_upcalls']:,} upcall records: guests handle events"
    print_fields(fields)
    if totals["hosts"]:
        print_types(fleet.types())
        print_hosts(fleet)
        print()
        rows = [tuple(row.values()) for row in operation_rows(fleet)]
        print_table(["operation", "errno", "records"], rows)


def print_hosts(fleet: Fleet) -> None:
    """Print the hosts, or of many those that coalesce most."""
    from evtsim.cli.output import duration

    frame = fleet.hosts
    many = len(frame) > SHOWN_HOSTS
    has_stats = "raised" in frame
    if many and has_stats:
        frame = frame.sort_values("coalesced_share", ascending=False, kind="stable")
    title = f"{SHOWN_HOSTS} most coalescing hosts" if many and has_stats else "host"
    columns, rows = [title, "records", "errors", "delivered"], []
    if has_stats:
        columns += ["coalesced %", "still pending", "latency p50", "p99", "max"]
    for host in frame.head(SHOWN_HOSTS).to_dict("records"):
        row = [host[name] for name in ("host", "records", "errors", "delivered")]
        if has_stats:
            row += [100 * host["coalesced_share"], host["pending"]]
            row += [duration(host[name]) for name in ("p50_ns", "p99_ns", "max_ns")]
        rows.append(row)
    print()
    print_table(columns, rows)
    if many:
        print(f"… {len(frame) - SHOWN_HOSTS:,} more hosts (--csv or --parquet write them all)")
