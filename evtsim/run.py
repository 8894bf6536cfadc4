"""Run: what a replay leaves, as frames."""

from __future__ import annotations

import contextlib
import dataclasses
import html
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import __version__, abi, statistics
from evtsim._files import folder_made, held, sweep, written_whole
from evtsim.abi import Effect
from evtsim.dtypes import PORT_LEVEL, TALLY_OPS
from evtsim.errors import FILE_FOR_FOLDER, EvtsimError, reason
from evtsim.guest import Guest
from evtsim.host import Host
from evtsim.outcomes import FIELDS as OUTCOME_FIELDS
from evtsim.outcomes import Outcomes
from evtsim.progress import Shown, shown_progress
from evtsim.simulator import Simulator
from evtsim.state import State
from evtsim.trace import Trace

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.dtypes import Array


FRAMES = ("ports", "vcpus", "domains", "operations", "timeline", "latency", "edges", "deliveries")
"""The frames of a run, by the names of its properties."""

DESCRIPTION = "run.json"
STATE = "state"


def check_folder(folder: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Raise an EvtsimError if a run cannot be saved into a folder, or not over what is there.

    Files of other names may be there, and stay.
    """
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise EvtsimError(f"{folder}: {FILE_FOR_FOLDER}")
    if overwrite:
        return
    if (target / DESCRIPTION).exists():
        raise EvtsimError(f"{folder}: holds a run already (--force replaces it)")
    for name in (STATE, *(f"{frame}.parquet" for frame in (*FRAMES, "outcomes"))):
        if (target / name).exists():
            raise EvtsimError(f"{folder}: has a file {name} of no run (--force replaces it)")


@dataclasses.dataclass(frozen=True)
class Operation:
    """How often one operation gave one answer.

    Attributes
    ----------
    op : int
        abi.Op's number; all numbers above 75 count as 76.
    rc : int
        0 or a negative errno.
    records : int
    """

    op: int
    rc: int
    records: int

    @property
    def op_name(self) -> str:
        """The operation's name."""
        return "other" if self.op == TALLY_OPS - 1 else abi.op_name(self.op)


class Run:
    """What everything that a simulator applied leaves.

    Attributes
    ----------
    host : Host
    state : State
        As it was when the run was taken; it does not change any more.
    outcomes : Outcomes or None
        What each record answered, if that was kept.
    trace : Trace or None
        What was replayed, if it was one trace from the start and still is at hand.
    parts : dict of str to str
        Folders of part files with what is not in the run: "outcomes", "deliveries"; see
        :func:`replay_file`.
    """

    def __init__(
        self,
        host: Host,
        state: State,
        outcomes: Outcomes | None = None,
        trace: Trace | None = None,
        source: Mapping[str, Any] | None = None,
        parts: Mapping[str, str] | None = None,
    ) -> None:
        self.host = host
        self.state = state
        self.outcomes = outcomes
        self.trace = trace
        self._source = source
        self.parts = dict(parts or {})

    @classmethod
    def of(
        cls, sim: Simulator, outcomes: Outcomes | None = None, trace: Trace | None = None
    ) -> Run:
        """Take what a simulator has, and leave it to go on.

        Parameters
        ----------
        sim : Simulator
        outcomes : Outcomes, optional
            What its records answered.
        trace : Trace, optional
            The records that it applied.
        """
        return cls(sim.host, sim.state.copy(), outcomes, trace)

    @property
    def source(self) -> dict[str, Any]:
        """Where the records came from, as far as that is known: the trace's file, meta, digest.

        Where that trace is not all, `before` says how many records others had.
        """
        if self._source is None:
            trace = self.trace
            self._source = {}
            if trace is not None:
                name = {"name": Path(trace.path).name} if trace.path else {}
                self._source = {**name, "meta": trace.meta, "digest": trace.digest()}
                if len(trace) < self.records:
                    self._source["before"] = {"records": self.records - len(trace)}
        return dict(self._source)

    @property
    def guest(self) -> Guest | None:
        """Who handled the events, if not the trace's own upcall records."""
        return self.state.guest

    @property
    def records(self) -> int:
        """How many records were applied."""
        return int(self.state.tables.host["records"][0])

    def tally(self) -> list[Operation]:
        """Count records by operation and answer, the commonest operation first."""
        tables = self.state.tables
        counts: Array = tables.failed.copy()
        counts[:, 0] = tables.done
        order = np.argsort(-counts.sum(axis=1), kind="stable")
        return [
            Operation(int(op), -int(errno), int(counts[op, errno]))
            for op in order
            for errno in np.flatnonzero(counts[op])
        ]

    @property
    def ports(self) -> pd.DataFrame:
        """Counts per port; needs stats="port". Columns: docs/statistics.md, here and below."""
        return statistics.ports(self.state)

    @property
    def vcpus(self) -> pd.DataFrame:
        """Counts per vcpu; needs stats."""
        return statistics.vcpus(self.state)

    @property
    def domains(self) -> pd.DataFrame:
        """Counts per domain; needs stats."""
        return statistics.domains(self.state)

    @property
    def operations(self) -> pd.DataFrame:
        """Records per caller, operation and answer; needs stats."""
        return statistics.operations(self.state)

    @property
    def timeline(self) -> pd.DataFrame:
        """Counts over time, of the host and of groups of domains; needs stats."""
        return statistics.timeline(self.state)

    @property
    def latency(self) -> pd.DataFrame:
        """Histograms of set to delivered; needs stats."""
        return statistics.latency(self.state)

    @property
    def edges(self) -> pd.DataFrame:
        """Notifications from domain to domain; needs stats="port"."""
        return statistics.edges(self.state)

    @property
    def deliveries(self) -> pd.DataFrame:
        """Every delivery by (ts, dom, vcpu); needs stats="port" and deliveries.

        Warns if there were more than are kept: then these are the earliest.
        """
        return statistics.deliveries(self.state)

    def effects(self) -> dict[str, int]:
        """Count the records that had each effect, by the effect's name in lower case."""
        counts = self.state.tables.effects
        flags = np.arange(len(counts))
        return {
            str(effect.name).lower(): int(counts[(flags & effect) != 0].sum()) for effect in Effect
        }

    def totals(self) -> dict[str, Any]:
        """Return the run in a few numbers.

        records, errors (records with rc below 0), domains (alive at the end), delivered (by
        upcalls), duration_ns (first to last ts; with a
        guest that was let go on, to the last thing that it did), and one
        count of records for each effect.
        """
        host = self.state.tables.host[0]
        return {
            "records": self.records,
            "errors": int(self.state.tables.failed.sum()),
            "domains": int(np.count_nonzero(self.state.tables.domains["alive"])),
            "duration_ns": int(host["last_ts"]) - int(host["first_ts"]),
            "delivered": int(self.state.tables.host["delivered"][0]),
            **self.effects(),
        }

    def summary(self) -> pd.DataFrame:
        """Return :meth:`totals` as a frame: metric, value."""
        import pandas as pd

        totals = self.totals()
        return pd.DataFrame({"metric": list(totals), "value": list(totals.values())})

    # Keeping -------------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the run into a folder: state, outcomes, and every frame as Parquet.

        Parameters
        ----------
        folder : path-like
            Made if need be.
        overwrite : bool
            Whether files of a run that is there already may be replaced.
        """
        target = Path(folder)
        check_folder(target, overwrite=overwrite)
        folder_made(target)
        with held(target):
            sweep(target)
            self._write(target)

    def _write(self, target: Path) -> None:
        """Write everything, and only then let it take the place of a run that is there."""
        from evtsim import checkpoint

        kept = {name: getattr(self, name) for name in FRAMES if self.has(name)}
        if self.outcomes is not None:
            kept["outcomes"] = self.outcomes.frame()
        description = {
            "version": __version__,
            "source": self.source,
            "guest": self.guest.to_dict() if self.guest else None,
            "frames": list(kept),
            "totals": self.totals(),
        }
        if self.parts:
            description["parts"] = self.parts
        with contextlib.ExitStack() as stack:  # which lets the last one go first
            text = stack.enter_context(written_whole(target / DESCRIPTION))
            text.write_text(json.dumps(description, indent=1) + "\n")
            checkpoint.save(stack.enter_context(written_whole(target / STATE)), self.state)
            for name, frame in kept.items():
                temporary = stack.enter_context(written_whole(target / f"{name}.parquet"))
                frame.to_parquet(temporary, index=False)
            (target / DESCRIPTION).unlink(missing_ok=True)  # no run until this one is whole
            for name in {*FRAMES, "outcomes"}.difference(kept):
                (target / f"{name}.parquet").unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Run:
        """Read what :meth:`save` wrote.

        Raises
        ------
        EvtsimError
            There is no whole run in the folder.
        """
        from evtsim import checkpoint

        source = Path(folder)
        if not (source / DESCRIPTION).is_file():
            raise EvtsimError(f"{folder}: holds no run (expected a folder with {DESCRIPTION})")
        state = checkpoint.load(source / STATE)
        path = source / "outcomes.parquet"
        try:
            description = dict(json.loads((source / DESCRIPTION).read_text()))
        except (ValueError, TypeError) as error:
            raise EvtsimError(f"{source / DESCRIPTION}: not JSON of a run ({error})") from None
        outcomes = _load_outcomes(path) if path.exists() else None
        about = {name: description.get(name, {}) for name in ("source", "parts")}
        return cls(state.host, state, outcomes, **about)

    def has(self, name: str) -> bool:
        """Tell whether this run's statistics include a frame."""
        if name == "deliveries":
            return self.state.deliveries_kept > 0
        needed = PORT_LEVEL if name in ("ports", "edges") else 1
        return self.state.level >= needed

    def __repr__(self) -> str:
        errors = int(self.state.tables.failed.sum())
        return f"<Run of {self.records:,} records, {errors:,} of them errors, on {self.host!r}>"

    def _repr_html_(self) -> str:
        what = html.escape(repr(self)[8:-1])
        return f"<b>Run</b> {what}{self.summary()._repr_html_()}"  # type: ignore[operator]


def _load_outcomes(path: Path) -> Outcomes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=list(OUTCOME_FIELDS))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise EvtsimError(f"{path}: {reason(error)}") from None
    return Outcomes(**{name: table.column(name).to_numpy() for name in OUTCOME_FIELDS})


def replay(
    trace: Trace | str | os.PathLike[str],
    host: Host | None = None,
    guest: Guest | None = None,
    stats: str | None = "port",
    outcomes: bool = True,
    drain: bool = False,
    progress: Shown = None,
    threads: int = 1,
    deliveries: int | None = None,
) -> Run:
    """Replay a trace from the start of its host.

    Parameters
    ----------
    trace : Trace or path-like
    host : Host, optional
        Overrides the trace's own.
    guest : Guest, optional
        Handles all events; upcall records of the trace then do nothing.
    stats : {"port", "domain", None}
        What to count on the way; see :class:`Simulator`.
    outcomes : bool
        Whether to keep what each record answered, 18 bytes each.
    drain : bool
        Whether the guest goes on after the last record until nothing is left to do.
    progress : callable or True, optional
        Called as ``progress(done, total)`` after every chunk of records; True shows a bar, in
        notebooks too.
    threads : int
        The most cores to use; see :class:`Simulator`.
    deliveries : int, optional
        The most deliveries to keep in a log; see :class:`Simulator`.

    Returns
    -------
    Run

    Raises
    ------
    HostError
        There is no host.
    TraceError
        The trace cannot be read or is damaged.
    """
    if not isinstance(trace, Trace):
        trace = Trace.load(trace, host)
    if drain and guest is None:
        raise EvtsimError("drain lets a guest go on, and there is none (guest= gives one)")
    sim = Simulator(trace.require_host(host), guest, stats, threads, deliveries=deliveries)
    with shown_progress(progress, "replaying", "records") as show:
        kept = sim.apply(trace, outcomes, progress=show)
    if drain:
        sim.drain()
    return Run.of(sim, kept, trace)
