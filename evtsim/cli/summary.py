"""What the command line says of a replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evtsim.cli.output import duration, print_fields, print_json, print_table

if TYPE_CHECKING:
    from evtsim.host import Host
    from evtsim.run import Run


def host_line(host: Host) -> str:
    """Say what a host is: what is alive may change."""
    return repr(host).strip("<>").removeprefix("Host ").replace(" alive", " alive at first")


def print_run(run: Run, as_json: bool, seconds: float, applied: int | None = None) -> None:
    """Print the summary of a replay, of whose records `applied` took so many seconds."""
    from evtsim import abi, statistics

    operations = [
        {"operation": row.op_name, "errno": abi.errno_name(row.rc) or "-", "records": row.records}
        for row in run.tally()
    ]
    types = statistics.by_type(run.state) if run.has("latency") else []
    vcpus = statistics.vcpu_totals(run.state) if run.has("vcpus") else {}
    ports = statistics.notified_ports(run.state) if run.has("ports") else []
    totals = run.totals()
    if as_json:
        guest = run.guest.to_dict() if run.guest else None
        print_json(
            {
                **totals,
                "guest": guest,
                "operations": operations,
                "types": types,
                "vcpus": vcpus,
                "busiest_ports": top(ports, "raised"),
                "most_coalescing_ports": top(ports, "coalesced"),
            }
        )
        return
    print_totals(run, totals, vcpus, seconds, run.records if applied is None else applied)
    print_types(types)
    print_ports("busiest", top(ports, "raised"))
    print_ports("most coalescing", top(ports, "coalesced"))
    print()
    print_table(["operation", "errno", "records"], [tuple(row.values()) for row in operations])


def top(ports: list[dict[str, int]], name: str, count: int = 5) -> list[dict[str, int]]:
    """Return the ports with most of something, of those that have any."""
    return [p for p in sorted(ports, key=lambda p: -p[name])[:count] if p[name]]


def print_totals(
    run: Run, totals: dict[str, Any], vcpus: dict[str, int], seconds: float, applied: int
) -> None:
    """Print what holds for the whole replay, a line each."""
    effects = ", ".join(f"{name} {totals[name]:,}" for name in run.effects() if totals[name])
    rate = f"{seconds:.2f} s, {applied / max(seconds, 1e-9) / 1e6:.1f} M records/s"
    now = "" if applied == run.records else f", {applied:,} of them now,"
    fields: dict[str, object] = {
        "host": host_line(run.host),
        "records": f"{totals['records']:,} replayed{now} in {rate}",
        "time span": duration(totals["duration_ns"]),
        "errors": totals["errors"],
        "delivered": totals["delivered"],
        "effects": effects or "none",
    }
    if run.guest:
        fields["guest"] = repr(run.guest)
    if vcpus:
        fields["vcpus"] = (
            f"kicks {vcpus['kicks']:,}, upcalls {vcpus['upcalls']:,}, of them spurious "
            f"{vcpus['spurious']:,}, largest batch {vcpus['largest_batch']:,}"
        )
        pending = vcpus["pending"]
        fields["still pending"] = f"{pending:,} port{'' if pending == 1 else 's'}"
    if run.guest and (ignored := ignored_upcalls(run)):
        records = f"{ignored:,} upcall record{'' if ignored == 1 else 's'}"
        fields["ignored"] = f"{records}: guests handle events"
    print_fields(fields)


def ignored_upcalls(run: Run) -> int:
    """Count the upcall records that did nothing, since a guest handles events; of any level."""
    from evtsim.abi import Op

    return sum(row.records for row in run.tally() if row.op == Op.UPCALL and row.rc == 0)


def print_types(types: list[dict[str, Any]]) -> None:
    """Print notifications and latencies by type of channel."""
    if not types:
        return
    print()
    rows = []
    for row in types:
        shares = [100 * row[name] / row["raised"] for name in ("coalesced", "masked")]
        latencies = [duration(ns) for ns in row["latency_ns"].values()]
        rows.append([row["type"], row["raised"], *shares, row["delivered"], *latencies])
    names = [f"latency {name}" for name in types[0]["latency_ns"]]
    print_table(["channel", "raised", "coalesced %", "masked %", "delivered", *names], rows)


def print_ports(title: str, ports: list[dict[str, int]]) -> None:
    """Print some ports' counts."""
    if not ports:
        return
    print()
    rows = [
        [p["dom"], p["port"], p["raised"], 100 * p["coalesced"] / p["raised"], p["delivered"]]
        for p in ports
    ]
    print_table([f"{title}: dom", "port", "raised", "coalesced %", "delivered"], rows)
