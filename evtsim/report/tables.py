"""The frames of the answers as tables of text, with units in the headings."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim.report.words import count, unit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from evtsim.report.answers import Answers

NONE = "\N{EN DASH}"
"""What a cell without a value says."""

MOST_ROWS = 200
"""Of longer tables the page has the first; a frame has them all."""

PORT = (("dom", "id", "dom"), ("port", "id", "port"), ("state_name", "text", "state"))
NOTIFIED = (
    ("raised", "count", "raised"),
    ("coalesced", "count", "coalesced"),
    ("coalesced_share", "share", "coalesced"),
)
QUANTILES = tuple(
    (f"{name.replace('.', '')}_ns", "time", name) for name in ("p50", "p90", "p99", "p99.9", "max")
)
Spec = tuple[str, str, str]
"""A column: its name in the frame, its kind (see `_cells`), its heading without the unit."""


@dataclasses.dataclass(frozen=True)
class Column:
    """What stands above a column.

    Attributes
    ----------
    name : str
        In the frame.
    title : str
        With the unit.
    text : bool
        Whether it has words, not numbers.
    """

    name: str
    title: str
    text: bool


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes
    ----------
    name : str
    title : str
    note : str
        What it shows, and of how many rows if not all.
    columns : tuple of Column
    rows : list of tuple of str
    """

    name: str
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: list[tuple[str, ...]]


def tables(answers: Answers) -> list[Table]:
    """Lay out all tables that the run's statistics give; without those that would be empty."""
    made = [_operations(answers)]
    if answers.counted:
        made += [_domains(answers), _latency(answers), _vcpus(answers), *_errors(answers)]
        if answers.run.state.tables.modern:
            made.append(_priorities(answers))
    if answers.by_port:
        made += [_stuck(answers), _storms(answers), _ports(answers), _edges(answers)]
        made.append(_selector_words(answers))
    place = {name: i for i, name in enumerate(ORDER)}
    return sorted((t for t in made if t.rows), key=lambda table: place[table.name])


ORDER = (
    *("stuck", "storms", "domains", "errors", "callers", "latency", "priorities", "ports"),
    *("vcpus", "edges", "words", "operations"),
)


def _stuck(answers: Answers) -> Table:
    return _table(
        answers,
        ("stuck", "Stuck channels", "Pending, or without a receiver, at the end. Longest first"),
        answers.stuck,
        (
            *PORT,
            ("vcpu", "id", "vcpu"),
            ("category", "text", "why"),
            ("waiting_ns", "time", "waiting"),
            ("coalesced", "count", "coalesced"),
            ("dropped", "count", "dropped"),
            ("reason", "text", "in words"),
        ),
    )


def _storms(answers: Answers) -> Table:
    return _table(
        answers,
        ("storms", "Storms", "Ports that leave the rest. Most notifications first"),
        answers.storms,
        (
            *PORT,
            ("reason", "text", "by"),
            ("raised", "count", "raised"),
            ("rate", "rate", "rate"),
            ("times_median", "ratio", "times the median port"),
            ("coalesced_share", "share", "coalesced"),
            ("begin_ns", "when", "busy from"),
            ("end_ns", "when", "busy to"),
        ),
    )


def _domains(answers: Answers) -> Table:
    frame, said = _foremost(
        answers.domains, ("peak_share", "hypercalls", "errors", "pending_peak"), "domains"
    )
    return _table(
        answers,
        ("domains", "Domains", f"Ports in use against the limit, hypercalls, errors. {said}"),
        frame,
        (
            ("dom", "id", "dom"),
            ("alive", "id", "alive"),
            ("in_use", "count", "ports in use"),
            ("in_use_peak", "count", "at most"),
            ("usable", "count", "of"),
            ("peak_share", "share", "at most"),
            ("enospc", "count", "ENOSPC"),
            ("first_enospc_ns", "when", "first ENOSPC"),
            ("hypercalls", "count", "hypercalls"),
            ("errors", "count", "errors"),
            ("pending", "count", "pending"),
            ("pending_peak", "count", "pending at most"),
        ),
    )


def _latency(answers: Answers) -> Table:
    return _table(
        answers,
        ("latency", "Types of channels", "From the bit set to the event delivered"),
        answers.latency_by_type,
        (("type", "text", "type"), *NOTIFIED, ("events", "count", "delivered"), *QUANTILES),
    )


def _priorities(answers: Answers) -> Table:
    return _table(
        answers,
        ("priorities", "Priorities", "When the bit was set; -1: under the 2-level ABI"),
        answers.latency_by_priority,
        (("priority", "id", "priority"), ("events", "count", "delivered"), *QUANTILES),
    )


def _ports(answers: Answers) -> Table:
    by = ("raised", "coalesced", "latency_max", "longest_gap", "dropped")
    frame, said = _foremost(answers.ports, by, "ports with sends or notifications")
    return _table(
        answers,
        ("ports", "Ports", f"As senders (sends, dropped) and as receivers. {said}"),
        frame,
        (
            *PORT,
            *NOTIFIED,
            ("delivered", "count", "delivered"),
            ("latency_mean", "time", "mean latency"),
            ("latency_max", "time", "longest latency"),
            ("longest_gap", "time", "longest gap"),
            ("outstanding", "count", "pending"),
            ("sends", "count", "sends"),
            ("dropped", "count", "dropped"),
        ),
    )


def _vcpus(answers: Answers) -> Table:
    by: tuple[str, ...] = ("delivered", "spurious", "largest_batch")
    specs: tuple[Spec, ...] = (
        ("dom", "id", "dom"),
        ("vcpu", "id", "vcpu"),
        ("kicks", "count", "kicks"),
        ("upcalls", "count", "upcalls"),
        ("spurious", "count", "spurious"),
        ("delivered", "count", "delivered"),
        ("largest_batch", "count", "largest batch"),
        ("poll_wakes", "count", "poll wakes"),
    )
    what = "Kicks, upcalls and deliveries"
    if answers.by_port:
        by = (*by, "longest_gap_ns")
        what += ", and Jain's index of its ports' mean latencies (1: all wait alike)"
        specs = (
            *specs,
            ("ports", "count", "ports"),
            ("jain_latency", "index", "Jain's index"),
            ("latency_max_ns", "time", "longest latency"),
            ("latency_max_port", "id", "its port"),
            ("longest_gap_ns", "time", "longest gap"),
            ("longest_gap_port", "id", "gap's port"),
        )
    frame, said = _foremost(answers.vcpus, by, "vcpus")
    return _table(answers, ("vcpus", "Vcpus", f"{what}. {said}"), frame, specs)


def _errors(answers: Answers) -> list[Table]:
    kind: tuple[Spec, ...] = (("op_name", "text", "operation"), ("errno_name", "text", "errno"))
    counts: tuple[Spec, ...] = (("records", "count", "records"), ("share", "share", "share"))
    return [
        _table(
            answers,
            ("errors", "Errors", "Share of all records of the operation. Most first"),
            answers.errors,
            (
                *kind,
                *counts,
                ("domains", "count", "callers"),
                ("first_ns", "when", "first"),
                ("first_dom", "id", "by dom"),
            ),
        ),
        _table(
            answers,
            ("callers", "Errors by caller", "Share of its records of the operation. Most first"),
            answers.errors_by_domain,
            (("dom", "id", "dom"), *kind, *counts, ("first_ns", "when", "first")),
        ),
    ]


def _edges(answers: Answers) -> Table:
    return _table(
        answers,
        ("edges", "Who talks to whom", "Notifications from domain to domain. Most first"),
        answers.edges,
        (("dom", "id", "sender"), ("target", "id", "target"), *NOTIFIED, ("rate", "rate", "rate")),
    )


def _selector_words(answers: Answers) -> Table:
    return _table(
        answers,
        ("words", "Selector words", "Where in a vcpu's selector the work is. Most first"),
        answers.selector_words,
        (
            ("dom", "id", "dom"),
            ("vcpu", "id", "vcpu"),
            ("word", "id", "word"),
            ("first_port", "id", "first port"),
            ("last_port", "id", "last port"),
            ("ports", "count", "ports"),
            *NOTIFIED[:2],
            ("delivered", "count", "delivered"),
            ("delivered_share", "share", "of the vcpu's"),
        ),
    )


def _operations(answers: Answers) -> Table:
    import pandas as pd

    from evtsim import abi

    rows = answers.run.tally()
    frame = pd.DataFrame(
        {
            "op_name": [row.op_name for row in rows],
            "errno_name": [abi.errno_name(row.rc) or NONE for row in rows],
            "records": np.array([row.records for row in rows], np.int64),
        }
    )
    return _table(
        answers,
        ("operations", "Operations", "All records. Most first"),
        frame,
        (
            ("op_name", "text", "operation"),
            ("errno_name", "text", "errno"),
            ("records", "count", "records"),
        ),
    )


def _foremost(frame: pd.DataFrame, by: Sequence[str], what: str) -> tuple[pd.DataFrame, str]:
    """Cut a frame to the rows that have most of anything, by the first; and say so."""
    order = frame.sort_values(by[0], ascending=False, kind="stable")
    if len(frame) <= MOST_ROWS:
        return order, "All of them"
    each = MOST_ROWS // len(by)
    foremost = {place for name in by for place in frame[name].nlargest(each).index}
    chosen = order.loc[order.index.isin(foremost)]
    said = f"The {each} with most of each of: {', '.join(by).replace('_', ' ')}"
    return chosen, f"{said}; {len(chosen):,} of {len(frame):,} {what}"


def _table(
    answers: Answers, head: tuple[str, str, str], frame: pd.DataFrame, specs: Sequence[Spec]
) -> Table:
    """Format a frame's columns, without those that have no value in any row."""
    name, title, note = head
    if len(frame) > MOST_ROWS:
        note += f"; the first {MOST_ROWS:,} of {count(len(frame), 'row')}"
    frame = frame.head(MOST_ROWS)
    columns, cells = [], []
    for column, kind, heading in specs:
        if len(frame) and frame[column].isna().all():
            continue
        texts, of = _cells(answers, frame[column], kind)
        columns.append(Column(column, f"{heading} ({of})" if of else heading, kind == "text"))
        cells.append(texts)
    return Table(name, title, f"{note}.", tuple(columns), list(zip(*cells, strict=True)))


def _cells(answers: Answers, values: pd.Series[Any], kind: str) -> tuple[list[str], str]:
    """Format a column; return the texts and the unit.

    Kinds: text; id, a number that is a name; count; share, told in %; rate; ratio; index, 0 to 1;
    time, in the unit that suits most of the column, to the ns or three digits after the point;
    when, the same from the first record on.
    """
    kept = values.dropna()
    if kind == "text":
        return [_or_none(value, str) for value in values], ""
    if kind in ("time", "when"):
        if kind == "when":
            kept = kept.astype(np.uint64).map(answers.after_start)
        unit_name, size = unit(float(kept[kept > 0].median()) if (kept > 0).any() else 0)
        digits = 0 if size == 1 else 3
        numbers = (kept.astype(float) / size).reindex(values.index)
        return [_or_none(value, f"{{:,.{digits}f}}".format) for value in numbers], unit_name
    form, factor, unit_name = FORMATS[kind]
    return [_or_none(value, lambda v: form.format(v * factor)) for value in values], unit_name


FORMATS: dict[str, tuple[str, int, str]] = {
    "id": ("{:.0f}", 1, ""),
    "count": ("{:,.0f}", 1, ""),
    "share": ("{:.2f}", 100, "%"),
    "rate": ("{:,.1f}", 1, "/s"),
    "ratio": ("{:,.1f}", 1, ""),
    "index": ("{:.3f}", 1, ""),
}


def _or_none(value: Any, text: Callable[[Any], str]) -> str:
    """Format a value, or say that there is none."""
    import pandas as pd

    return NONE if value is pd.NA or value != value else text(value)
