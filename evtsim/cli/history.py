"""Commands that go back: at, port, explain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from evtsim.cli.command import whole
from evtsim.cli.frames import Rows, plain_rows, print_frame
from evtsim.cli.guests import with_guest
from evtsim.cli.output import (
    HostFile,
    Json,
    count,
    duration,
    print_fields,
    print_json,
    progress,
)
from evtsim.cli.traces import TraceFile, open_trace

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.guest import Guest
    from evtsim.history import History
    from evtsim.state import State

Record = Annotated[
    str, typer.Argument(metavar="N", help="Number of the record, from 0: 4711, 10k, 1e6.")
]


TITLES = {
    "domains": "domains",
    "ports": "ports that are in use or pending",
    "vcpus": "vcpus",
}
"""Of the tables of a state."""


def open_history(trace: str, host: str | None, guest: Guest | None) -> History:
    """Open a trace for going back in it."""
    from evtsim.history import History

    return History(open_trace(trace, host), guest=guest)


@with_guest
def at(
    trace: TraceFile,
    record: Record,
    dom: Annotated[
        int | None,
        typer.Option("--dom", metavar="DOM", parser=whole(), help="Only this domain's."),
    ] = None,
    vcpus: Annotated[bool, typer.Option("--vcpus", help="The vcpus too.")] = False,
    rows: Rows = None,
    host: HostFile = None,
    guest: Any = None,
    as_json: Json = False,
) -> None:
    """Show the state that a record finds: domains and ports.

    N may be the number of records: the state at the end.
    """
    history = open_history(trace, host, guest)
    number = count("N", record)
    with progress("replaying") as shown:
        state = history.at(number, progress=shown)
    check_alive(state, dom, number)
    frames = tables_of(state, dom, vcpus)
    ts = history.ts(number) if number < len(history) else None
    if as_json:
        tables = {name: plain_rows(frame, rows) for name, frame in frames.items()}
        print_json({"record": number, "ts": ts, **tables})
        return
    when = "the end" if ts is None else f"ts {ts:,} ns"
    print(f"{trace}: before record {number:,}, {when}")
    for name, frame in frames.items():
        print(f"\n{TITLES[name]}")
        print_frame(frame, rows)


def check_alive(state: State, dom: int | None, record: int) -> None:
    """Raise an EvtsimError if the domain that is asked for does not exist at that time."""
    from evtsim.errors import EvtsimError

    if dom is None:
        return
    if not 0 <= dom < len(state.host):
        raise EvtsimError(f"no domain {dom} (expected 0 to {len(state.host) - 1})")
    if not state.tables.domains["alive"][dom]:
        alive = state.tables.domains["alive"].nonzero()[0].tolist()
        known = ", ".join(map(str, alive[:8])) + (", …" if len(alive) > 8 else "")
        expected = f"expected one of: {known}" if alive else "none is"
        raise EvtsimError(f"domain {dom} is not alive before record {record} ({expected})")


def tables_of(state: State, dom: int | None, vcpus: bool) -> dict[str, pd.DataFrame]:
    """Return the tables to show: domains, perhaps vcpus, ports that are in use or have a bit."""
    from evtsim.abi import PortState
    from evtsim.history.lives import state_name

    ports = state.ports()
    in_use = ports["state"] > PortState.RESERVED
    ports = ports[in_use | (ports["pending"] != 0)]
    ports.insert(3, "state_name", [state_name(value) for value in ports["state"]])
    frames = {"domains": state.domains(), "ports": ports}
    if vcpus:
        frames["vcpus"] = state.vcpus()
    return {
        name: frame if dom is None else frame[frame["dom"] == dom] for name, frame in frames.items()
    }


@with_guest
def explain(
    trace: TraceFile,
    record: Record,
    host: HostFile = None,
    guest: Any = None,
    as_json: Json = False,
) -> None:
    """Say what a record did and why its rc is what it is."""
    history = open_history(trace, host, guest)
    with progress("replaying") as shown:
        explanation = history.explain(count("N", record), progress=shown)
    if as_json:
        print_json(explanation.to_dict())
        return
    print(f"record {explanation.record:,}, ts {explanation.ts:,} ns")
    print(explanation.title)
    for sentence in explanation.sentences:
        print(f"  {sentence}")
    stages = (
        ("of every operation", explanation.front),
        ("its own", explanation.order),
        ("of its result", explanation.last),
    )
    order = "; ".join(f"{what}: {', '.join(names)}" for what, names in stages if names)
    print()
    print_fields(
        {
            "rule": explanation.rule,
            "errnos, in order": f"{order} (docs/operations.md)",
            "section": f"{explanation.section} (docs/semantics.md)",
            "decided by": explanation.function,
        }
    )


@with_guest
def port(
    trace: TraceFile,
    dom: Annotated[
        int, typer.Argument(metavar="DOM", parser=whole(), help="A domain, alive or not.")
    ],
    number: Annotated[
        int, typer.Argument(metavar="PORT", parser=whole(), help="A port, in use or not.")
    ],
    rows: Rows = None,
    host: HostFile = None,
    guest: Any = None,
    as_json: Json = False,
) -> None:
    """Show a port's life: every record that changed its state, pending or mask bit."""
    history = open_history(trace, host, guest)
    with progress("replaying") as shown:
        frame = history.port(dom, number, progress=shown)
    if as_json:
        print_json(plain_rows(frame, rows))
        return
    if frame.empty:
        print(f"dom {dom}'s port {number}: nothing changed it in {len(history):,} records")
        return
    span = int(frame["ts"].iloc[-1]) - int(frame["ts"].iloc[0])
    changes = f"{len(frame):,} changes in {duration(span)}" if len(frame) > 1 else "1 change"
    print(f"dom {dom}'s port {number}: {changes}")
    print_frame(life_in_words(frame), rows)


def life_in_words(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of a life that people read, with names for numbers."""
    from evtsim import abi

    shown = frame[["record", "ts", "op_name", "dom", "vcpu"]].copy()
    shown["from"] = frame["from_state_name"]
    shown["to"] = frame["to_state_name"]
    shown[["pending", "mask"]] = frame[["pending", "mask"]]
    shown["rc"] = frame["errno_name"].astype(str).where(frame["rc"] != 0, "0")
    shown["effects"] = [abi.Effect(int(e)).name or "" for e in frame["effects"]]
    shown["record"] = frame["record"].astype(object).where(frame["record"] >= 0, "-")
    return shown


COMMANDS = (at, port, explain)
