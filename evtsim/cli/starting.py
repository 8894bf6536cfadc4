"""Where a command begins that goes on from somewhere: a checkpoint, or the last dump of a log."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evtsim.errors import EvtsimError

if TYPE_CHECKING:
    from evtsim.guest import Guest
    from evtsim.host import Host
    from evtsim.interop.snapshots import Snapshot
    from evtsim.simulator import Simulator
    from evtsim.state import State
    from evtsim.trace import Trace, TraceReader


def simulator_at(
    path: str,
    host: Host | None = None,
    guest: Guest | None = None,
    stats: str | None = "port",
    deliveries: int | None = None,
    threads: int = 1,
) -> tuple[Simulator, dict[str, Any]]:
    """Make a simulator that is where a file says, and say where that is.

    A checkpoint has a guest, statistics and log of its own; a dump takes those given.
    """
    from evtsim import checkpoint
    from evtsim.simulator import Simulator

    if checkpoint.is_one(path):
        if guest is not None or deliveries is not None:
            raise EvtsimError(
                f"{path}: a checkpoint goes on with its own guest and log (expected no other, or "
                "the log of a console with a dump)"
            )
        sim, kind = Simulator.load(path, threads), "checkpoint"
        if host is not None and sim.host != host:
            raise EvtsimError(f"{path}: is of another host than the trace")
    else:
        sim, kind = begun(last_dump(path), host, guest, stats, deliveries, threads), "dump"
    return sim, {kind: Path(path).name, "records": sim.records}


def last_dump(path: str) -> Snapshot:
    """Return the last dump of a log."""
    from evtsim.interop import dumps

    try:
        return dumps.read(path)[-1]
    except dumps.NoDumpError:
        raise EvtsimError(
            f"{path}: not a checkpoint of evtsim, and no log with a dump of event channels"
        ) from None


def begun(
    snapshot: Snapshot,
    host: Host | None = None,
    guest: Guest | None = None,
    stats: str | None = "port",
    deliveries: int | None = None,
    threads: int = 1,
) -> Simulator:
    """Begin with a dump, and say on stderr what of it was not taken as it is."""
    from evtsim.simulator import Simulator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sim = Simulator.from_dump(
            snapshot, host, guest, stats, deliveries=deliveries, threads=threads
        )
    for note in snapshot.contradictions(sim.host):
        print(f"evtsim: note: {note}", file=sys.stderr)
    return sim


def warn_of_another_state(trace: Trace | TraceReader, state: State, path: str) -> None:
    """Say so if a trace was made for another state than the one that it is begun with."""
    from evtsim.trace.header import start_digest

    wanted = start_digest(trace.meta)
    if wanted is not None and trace.first == 0 and wanted != state.digest():
        name = trace.path or "the trace"
        print(f"evtsim: warning: {name} was made for another state than {path}", file=sys.stderr)
