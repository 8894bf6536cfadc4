"""What stands out in a run, in words: each finding one function of the answers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from evtsim.report.answers import Answers, rows
from evtsim.report.words import count, duration, per_second, percent

if TYPE_CHECKING:
    from collections.abc import Callable

    from evtsim.run import Run

MOST = 3
"""So many cases are told in words; the tables have the others."""

NEAR = 0.8
"""A domain that uses this share of its ports is near its last one."""

LATE = 1_000
"""A wait so many times as long as the median stands out."""

CATEGORIES = {
    "moved": "on a vcpu that they were moved from",
    "upcalls_masked": "on a vcpu that masks upcalls",
    "never_woken": "on a vcpu that did not run",
    "lost": "that no vcpu will look for",
    "masked": "masked",
    "no_event_word": "without an event word",
    "no_control_block": "without a control block",
    "no_peer": "without a peer",
}
"""Why channels are stuck, after a number of them."""

STATUSES = {"problem": "Problem", "notice": "Notice", "note": "", "fine": "Fine"}
"""In the order in which they are told, with what the page calls them."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing to know of a run.

    Attributes
    ----------
    name : str
        What it is about: latency, storms, stuck, …
    status : str
        "problem", "notice" (may be one), "fine", or "note" (neither).
    title : str
        The finding in a line.
    text : str
        What goes with it, in a sentence or a few; may be empty.
    cases : tuple of str
        The worst of them.
    table : str
        Name of the table that has all of them; may be empty.
    """

    name: str
    status: str
    title: str
    text: str = ""
    cases: tuple[str, ...] = ()
    table: str = ""

    @property
    def called(self) -> str:
        """What the page calls the status."""
        return STATUSES[self.status]


def findings(run: Run | Answers) -> list[Finding]:
    """Tell what stands out, problems first.

    Parameters
    ----------
    run : Run
        Of any statistics; what it did not count is left out.

    Returns
    -------
    list of Finding
    """
    answers = run if isinstance(run, Answers) else Answers(run)
    asked: list[Callable[[Answers], Finding]] = []
    if answers.by_port:
        asked += [stuck, storms]
    if answers.counted:
        asked += [exhaustion, errors, latency, coalescing, handlers]
    if answers.by_port:
        asked.append(traffic)
    if not answers.totals["records"]:
        return [Finding("records", "note", "The trace has no records")]
    found = [ask(answers) for ask in asked]
    order = list(STATUSES)
    return sorted(found, key=lambda each: order.index(each.status))


def latency(answers: Answers) -> Finding:
    """Tell how long events waited, and the three longest waits."""
    if answers.latency.empty:
        return Finding("latency", "note", "No event was delivered")
    row = next(rows(answers.latency))
    told = (
        f"Of {count(row.events, 'delivered event')}, half waited at most "
        f"{duration(row.p50_ns)} from the bit set to the handler, 99 % at most "
        f"{duration(row.p99_ns)}, and 99.9 % at most {duration(row.p999_ns)}."
    )
    if answers.run.guest is None:
        told += " Without a guest, an event is delivered when the trace's own upcall takes it."
    cases: list[str] = []
    if answers.by_port:
        ports = answers.ports[answers.ports["delivered"] > 0]
        cases = [
            f"{_port(port)} ({port.state_name}): {duration(port.latency_max)} at most, "
            f"{duration(port.latency_mean)} on average over {count(port.delivered, 'event')}"
            for port in rows(ports.nlargest(MOST, "latency_max", keep="first"))
        ]
    times = row.max_ns / max(row.p50_ns, 1)
    title = f"The longest wait was {duration(row.max_ns)}"
    if times > LATE:
        title += f", {times:,.0f} times the median"
    status = "notice" if times > LATE else "note"
    table = "ports" if answers.by_port else "latency"
    return Finding("latency", status, title, told, tuple(cases), table)


def coalescing(answers: Answers) -> Finding:
    """Tell how many notifications found their bit set, and where most did."""
    raised, coalesced = answers.totals["raised"], answers.totals["coalesced"]
    if not raised:
        return Finding("coalescing", "note", "No port was notified")
    title = f"{percent(coalesced, raised)} of {raised:,} notifications coalesced"
    told = "They found their port's bit set already."
    if len(answers.notified) > 1:
        kinds = [
            f"{kind.type} {percent(kind.coalesced, kind.raised)} of {kind.raised:,}"
            for kind in rows(answers.notified)
        ]
        told += f" By type of channel: {', '.join(kinds)}."
    cases: list[str] = []
    if answers.by_port:
        ports = answers.ports[answers.ports["coalesced"] > 0]
        cases = [
            f"{_port(port)} ({port.state_name}): {port.coalesced:,} of {port.raised:,} "
            f"notifications, {percent(port.coalesced, port.raised)}"
            for port in rows(ports.nlargest(MOST, "coalesced", keep="first"))
        ]
    table = "ports" if answers.by_port else "latency"
    return Finding("coalescing", "note", title, told, tuple(cases), table)


def storms(answers: Answers) -> Finding:
    """Tell which ports leave the rest."""
    frame = answers.storms
    if frame.empty:
        told = "No port's rate or share of coalesced notifications leaves those of the others."
        return Finding("storms", "fine", "No storms", told)
    raised = int(frame["raised"].sum())
    whole = percent(raised, answers.totals["raised"])
    title = f"{count(len(frame), 'port')} in a storm, with {whole} of all notifications"
    cases = [
        f"{_port(storm)} ({storm.state_name}), by {storm.reason.replace(', ', ' and ')}: "
        f"{storm.raised:,} notifications ({per_second(storm.rate)}), "
        f"{storm.times_median:,.1f} times the median port's, "
        f"{percent(storm.coalesced_share)} coalesced; "
        f"busy from {duration(answers.after_start(storm.begin_ns))} to "
        f"{duration(answers.after_start(storm.end_ns))} after the first record"
        for storm in rows(frame.head(MOST))
    ]
    return Finding("storms", "notice", title, _more(frame), tuple(cases), "storms")


def stuck(answers: Answers) -> Finding:
    """Tell which channels are stuck at the end, and why."""
    frame = answers.stuck
    told = ""
    if answers.last_moments_ns:
        told = (
            f"What was raised in the last {duration(answers.last_moments_ns)} is not counted: "
            "without a guest, nobody knows what comes after the trace, and 99.9 % of the events "
            "waited no longer than that."
        )
    if frame.empty:
        return Finding("stuck", "fine", "No channel is stuck at the end", told)
    kinds = frame["category"].value_counts()
    named = [
        f"{number:,} {CATEGORIES[str(kind)]}"
        for kind, number in zip(kinds.index.tolist(), kinds.tolist(), strict=True)
        if number
    ]
    several = "channels are stuck at the end"
    title = f"{count(len(frame), 'channel is stuck at the end', several)}: {', '.join(named)}"
    # One of each kind: a thousand that are alike must not hide another.
    worst = frame.assign(pending=frame["since_ns"].notna()).drop_duplicates("category")
    cases = []
    for row in rows(worst):
        since = f", pending for {duration(row.waiting_ns)}" if row.pending else ""
        cases.append(f"{_port(row)}{since}; {row.reason}")
    if len(frame) > len(cases):
        told = f"The worst of each kind; the table has more. {told}"
    return Finding("stuck", "problem", title, told.strip(), tuple(cases), "stuck")


def exhaustion(answers: Answers) -> Finding:
    """Tell how near the fullest domains are to their last port."""
    frame = answers.exhaustion
    fullest = next(rows(frame))
    failed = frame[frame["enospc"] > 0]
    near = frame[(frame["peak_share"] >= NEAR) | (frame["enospc"] > 0)]
    use = (
        f"{fullest.in_use_peak:,} of {fullest.usable:,} ports at most "
        f"({percent(fullest.in_use_peak, fullest.usable)})"
    )
    if near.empty:
        title = "No domain is near its last port"
        return Finding(
            "exhaustion", "fine", title, f"dom{fullest.dom} is nearest: {use}.", (), "domains"
        )
    cases = []
    for row in rows(near.head(MOST)):
        case = (
            f"dom{row.dom}: {row.in_use_peak:,} of {row.usable:,} ports at most "
            f"({percent(row.in_use_peak, row.usable)}), {row.in_use:,} at the end"
        )
        if row.enospc:
            first = duration(answers.after_start(row.first_enospc_ns))
            case += f"; {count(row.enospc, 'record')} failed with ENOSPC, the first after {first}"
        elif row.growth > 0 and row.in_use < row.usable:
            left = duration(row.forecast_ns - answers.first_ns - answers.totals["duration_ns"])
            case += f"; if it goes on to grow as in the second half of the run, full {left} later"
        cases.append(case)
    if len(failed):
        failures = int(failed["enospc"].sum())
        several = "domains were refused ports"
        title = f"{count(len(failed), 'domain was refused ports', several)} ({failures:,} times)"
        return Finding("exhaustion", "problem", title, _more(near), tuple(cases), "domains")
    title = f"{count(len(near), 'domain is', 'domains are')} near the last port"
    return Finding("exhaustion", "notice", title, _more(near), tuple(cases), "domains")


def errors(answers: Answers) -> Finding:
    """Tell which operations failed, how, and who asked first."""
    frame = answers.errors
    records = answers.totals["records"]
    if frame.empty:
        return Finding("errors", "fine", f"None of {count(records, 'record')} failed")
    failed = answers.totals["errors"]
    title = f"{count(failed, 'record')} failed, {percent(failed, records)} of all"
    cases = [
        f"{row.op_name}: {row.errno_name}, {count(row.records, 'time')} "
        f"({percent(row.share)} of its records), "
        f"{'only' if row.domains == 1 else f'by {row.domains:,} domains, first'} "
        f"{_caller(row.first_dom)}, {duration(answers.after_start(row.first_ns))} "
        "after the first record"
        for row in rows(frame.head(MOST))
    ]
    return Finding("errors", "notice", title, _more(frame, "kinds"), tuple(cases), "errors")


def handlers(answers: Answers) -> Finding:
    """Tell what upcalls did."""
    totals = answers.totals
    upcalls, delivered = totals["upcalls"], totals["delivered"]
    title = f"{count(upcalls, 'upcall').capitalize()} delivered {count(delivered, 'event')}"
    told = f"{count(totals['kicks'], 'kick').capitalize()} (upcall_pending went from 0 to 1)"
    if upcalls:
        told += (
            f"; {delivered / upcalls:.2f} events to an upcall, {totals['largest_batch']:,} at "
            f"most; {percent(totals['spurious'], upcalls)} of the upcalls found nothing"
        )
    told += "."
    if answers.run.guest is not None and totals["ignored_upcalls"]:
        told += (
            f" {count(totals['ignored_upcalls'], 'upcall record')} of the trace did nothing: "
            "the guest handles events by itself."
        )
    return Finding("handlers", "note", title, told, (), "vcpus")


def traffic(answers: Answers) -> Finding:
    """Tell which domains notify each other most."""
    frame = answers.edges
    if frame.empty:
        return Finding("traffic", "note", "No domain notified another")
    raised = answers.totals["raised"]
    title = f"{count(len(frame), 'pair of domains', 'pairs of domains')} with notifications"
    received = frame.groupby("target")[["raised"]].sum().reset_index()
    most = next(rows(received.nlargest(1, "raised")))
    told = (
        f"dom{most.target} got most notifications, {most.raised:,} "
        f"({percent(most.raised, raised)}). The busiest pairs:"
    )
    cases = [
        f"dom{row.dom} → {'itself' if row.dom == row.target else f'dom{row.target}'}: "
        f"{row.raised:,} ({per_second(row.rate)}), {percent(row.coalesced, row.raised)} coalesced"
        for row in rows(frame.head(MOST))
    ]
    return Finding("traffic", "note", title, told, tuple(cases), "edges")


def _port(row: Any) -> str:
    return f"dom{row.dom} port {row.port}"


def _caller(dom: int) -> str:
    return "by a domain that is not configured" if dom < 0 else f"by dom{dom}"


def _more(frame: Any, what: str = "cases") -> str:
    """Say that a table has more than what is told."""
    return f"The first {MOST} of {len(frame):,} {what}:" if len(frame) > MOST else ""
