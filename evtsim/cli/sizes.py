"""What the command line says of the size of a replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evtsim.cli.output import duration, print_fields, print_json, size

if TYPE_CHECKING:
    from evtsim.guest import Guest
    from evtsim.host import Host
    from evtsim.sizing import Rate, Size
    from evtsim.trace import TraceReader


def print_needs(
    reader: TraceReader, guest: Guest | None, stats: str | None, outcomes: bool, as_json: bool
) -> None:
    """Print what a replay needs, and how long it takes, measured on its first records."""
    from evtsim import sizing
    from evtsim.trace.header import start_digest

    path = reader.path or ""
    host = reader.require_host()
    needs = sizing.size_of(path, reader.records, host, guest, stats)
    # Without the state that a trace is for, its first records are errors, and tell nothing.
    measuring = start_digest(reader.meta) is None
    rate = sizing.rate_of(
        path, needs.records, host, guest, stats, outcomes=outcomes, measuring=measuring
    )
    seconds = None if rate is None else rate.seconds(needs.records)
    if as_json:
        print_json(
            {
                **facts(needs),
                "measured_records": (rate and rate.records) or None,
                "measured_table_bytes": (rate and rate.table_bytes) or None,
                "ns_per_record": rate and rate.ns,
                "seconds": seconds,
            }
        )
        return
    fields = {"records": records(needs), "to read": known(needs.file_bytes)}
    fields["tables"] = f"{known(needs.table_bytes)} at the start"
    fields["statistics"] = f"{known(needs.statistics_bytes)} at the start"
    if guest is not None:
        fields["statistics"] += ", with the guest's tables"
    if rate is not None and rate.records:
        fields["together"] = f"{size(rate.table_bytes)} after {rate.records:,} records"
    fields["outcomes"] = f"{known(needs.outcome_bytes)} in memory; in files, 2.4 MB at a time"
    if rate is not None and seconds is not None:
        fields["time"] = f"{told(rate, seconds)}; without writing)"
    print_fields(dict(fields))


def needs_line(path: str, known_records: int | None, host: Host | None) -> tuple[str, Any]:
    """Say in a line what a replay would need, and return it as data, without replaying."""
    from evtsim import sizing

    needs = sizing.size_of(path, known_records, host)
    rate = None
    if host is not None:
        rate = sizing.rate_of(path, needs.records, host, measuring=False)
    seconds = None if rate is None else rate.seconds(needs.records)
    data = {**facts(needs), "ns_per_record": rate and rate.ns, "seconds": seconds}
    if host is None or needs.table_bytes is None or needs.statistics_bytes is None:
        return "needs a host (--host FILE)", data
    words = f"{size(needs.table_bytes + needs.statistics_bytes)} of tables or more"
    if rate is None or seconds is None:
        return f"{words}; 'evtsim replay --dry-run' measures how long", data
    return f"{words}; with --stats port, {told(rate, seconds)})", data


def told(rate: Rate, seconds: float) -> str:
    """Say how long a replay takes and how that is known; the bracket is left open."""
    how = "as the last such replay here took"
    if rate.records:
        how = f"measured just now on the first {rate.records:,}"
    return f"about {duration(round(seconds * 1e9))} ({rate.ns:.0f} ns a record, {how}"


def facts(needs: Size) -> dict[str, Any]:
    """Return what is known of a replay's size, as data."""
    return {
        "records": needs.records,
        "records_counted": needs.counted,
        "file_bytes": needs.file_bytes,
        "column_bytes": needs.column_bytes,
        "outcome_bytes": needs.outcome_bytes,
        "table_bytes": needs.table_bytes,
        "statistics_bytes": needs.statistics_bytes,
    }


def records(needs: Size) -> str:
    """Say how many records there are, or about how many."""
    if needs.records is None:
        return "unknown"
    return f"{needs.records:,}" if needs.counted else f"about {needs.records:,}"


def known(count: int | None) -> str:
    """Say a number of bytes, if it is known."""
    return "unknown" if count is None else size(count)
