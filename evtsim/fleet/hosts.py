"""What a worker does with one host: replay it, keep it, find it again, tell the rest in short."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from evtsim import __version__, cluster, statistics, workloads
from evtsim._files import written_whole
from evtsim.analysis.sweeping import measured
from evtsim.errors import EvtsimError
from evtsim.fleet.specs import Spec, Synthetic
from evtsim.guest import Guest
from evtsim.host import Host
from evtsim.run import Run
from evtsim.simulator import Simulator
from evtsim.trace import Trace
from evtsim.trace.chunk import Chunk

if TYPE_CHECKING:
    import pyarrow as pa

PART = "host.json"
"""In a host's folder, written last: what was replayed, and the part that the fleet needs of it."""

SMALL = ("vcpus", "domains", "operations", "latency")
"""Frames that are small enough to be kept in memory of many hosts."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the hosts of a fleet are replayed, all alike.

    Attributes
    ----------
    guest : Guest or None
    stats : {"domain", "port", None}
    drain : bool
    host : Host or None
        Overrides the traces' own.
    """

    guest: Guest | None = None
    stats: str | None = "domain"
    drain: bool = False
    host: Host | None = None

    def __post_init__(self) -> None:
        Simulator(self.host or Host.uniform(1), stats=self.stats)  # which says what is wrong
        if self.guest is not None and not isinstance(self.guest, Guest):
            raise EvtsimError(f"guest is {self.guest!r} (expected an evtsim.Guest or None)")
        if self.drain and self.guest is None:
            raise EvtsimError("drain lets a guest go on, and there is none (guest= gives one)")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data, with the version of evtsim that heeds them."""
        settings = {
            "version": __version__,
            "guest": self.guest.to_dict() if self.guest else None,
            "stats": self.stats,
            "drain": self.drain,
            "host": self.host.to_dict() if self.host else None,
        }
        plain: dict[str, Any] = json.loads(json.dumps(settings))  # as they are read from a file
        return plain


def digest_of(settings: Mapping[str, Any]) -> str:
    """Identify settings, given as plain data."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Task:
    """One host to be replayed."""

    name: str
    spec: Spec
    folder: str | None  # of the fleet


@dataclasses.dataclass
class Part:
    """What a fleet needs of a host that was replayed: plain data, small whatever the host.

    Attributes
    ----------
    row : dict
        Of the frame of hosts.
    totals : dict of int
        Run.totals().
    vcpus : dict of int
        Sums over the vcpus.
    types : list of dict
        Notifications by type of channel.
    operations : list of [op, rc, records]
    latency : list of [row, bin, events]
        The latency histogram, where it is not 0.
    frames : dict of Table
        Those of SMALL, if the host is not kept in a folder.
    kept : bool
        Whether it had been replayed before.
    """

    row: dict[str, Any]
    totals: dict[str, int]
    vcpus: dict[str, int]
    types: list[dict[str, Any]]
    operations: list[list[int]]
    latency: list[list[int]]
    frames: dict[str, pa.Table] = dataclasses.field(default_factory=dict)
    kept: bool = False

    @classmethod
    def of(cls, run: Run, source: str) -> Part:
        """Take a run's."""
        totals, has_stats = run.totals(), run.has("vcpus")
        row = {name: totals[name] for name in ("records", "errors", "domains", "duration_ns")}
        numbers = measured(run) if has_stats else {"delivered": totals["delivered"]}
        row |= {name: np.asarray(value).item() for name, value in numbers.items()}
        where = np.nonzero(run.state.tables.latency) if has_stats else ()
        latency = [*where, run.state.tables.latency[where]] if has_stats else []
        return cls(
            row={"source": source, **row},
            totals=totals,
            vcpus=statistics.vcpu_totals(run.state) if has_stats else {},
            types=statistics.by_type(run.state) if has_stats else [],
            operations=[[row.op, row.rc, row.records] for row in run.tally()],
            latency=np.stack(latency, axis=1).tolist() if has_stats else [],
        )

    def to_json(self) -> dict[str, Any]:
        """Return what belongs into the host's file."""
        fields = ("row", "totals", "vcpus", "types", "operations", "latency")
        return {name: getattr(self, name) for name in fields}


def replay_host(settings: Settings, task: Task) -> Part:
    """Replay a host, or find that it has been."""
    import pyarrow as pa

    found = _finished(settings, task)
    if found is not None:
        return found
    identity = _identity(task.spec)  # before it is read: it may change meanwhile
    run = _run(settings, task.spec)
    part = Part.of(run, str(task.spec))
    if task.folder is not None:
        _keep(settings, task, identity, run, part)
    else:
        part.frames = {
            name: pa.Table.from_pandas(getattr(run, name), preserve_index=False)
            for name in SMALL
            if run.has(name)
        }
    return part


def folder_of(folder: str | Path, name: str) -> Path:
    """Return a host's folder in that of its fleet, as Hive would call the partition."""
    return Path(folder) / f"host={quote(name, safe=' ')}"


def _run(settings: Settings, spec: Spec) -> Run:
    """Replay a trace from its file, or a workload while it is made."""
    if isinstance(spec, Synthetic):
        return _run_synthetic(settings, spec)
    trace = Trace.load(spec, settings.host)
    sim = _simulator(settings, trace.require_host())
    sim.apply(trace, outcomes=False)
    if settings.drain:
        sim.drain()
    return Run(sim.host, sim.state, trace=trace)


def _run_synthetic(settings: Settings, spec: Synthetic) -> Run:
    cluster.warm_generator(spec.workload)
    parameters = {**spec.parameters, "seed": spec.seed}
    made = workloads.stream(spec.workload, host=settings.host, **parameters)
    sim = _simulator(settings, made.host)
    for columns in made.chunks():
        sim.apply(Trace([Chunk.of(columns)], made.host), outcomes=False)
    if settings.drain:
        sim.drain()
    return Run(sim.host, sim.state, source={"meta": made.meta})


def _simulator(settings: Settings, host: Host) -> Simulator:
    cluster.warm_kernels(host.profile, settings.guest is not None, settings.stats)
    return Simulator(host, settings.guest, settings.stats)


# Keeping -----------------------------------------------------------------------------------------


def _keep(settings: Settings, task: Task, identity: dict[str, Any], run: Run, part: Part) -> None:
    """Write a host's run, and at last that it is whole."""
    assert task.folder is not None
    folder = folder_of(task.folder, task.name)
    (folder / PART).unlink(missing_ok=True)
    run.save(folder, overwrite=True)
    digest = {"digest": run.source["digest"]} if "digest" in run.source else {}
    kept = {
        "settings": digest_of(settings.to_dict()),
        "input": {**identity, **digest},
        "part": part.to_json(),
    }
    with written_whole(folder / PART) as temporary:
        temporary.write_text(json.dumps(kept) + "\n")


def read_part(digest: str, folder: Path) -> tuple[Part, dict[str, Any]] | None:
    """Return the part that a host's folder keeps, and of which input.

    None if the host is not whole, or was replayed with settings of another digest.
    """
    try:
        kept = json.loads((folder / PART).read_text())
        if kept["settings"] != digest:
            return None
        return Part(**kept["part"], kept=True), dict(kept["input"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _finished(settings: Settings, task: Task) -> Part | None:
    """Return a host's part if it has been replayed from the same input."""
    if task.folder is None:
        return None
    found = read_part(digest_of(settings.to_dict()), folder_of(task.folder, task.name))
    if found is None:
        return None
    part, was = found
    digest = was.pop("digest", None)
    if was != _identity(task.spec) and not _same_records(settings, task.spec, digest):
        return None
    part.row["source"] = str(task.spec)
    return part


def _identity(spec: Spec) -> dict[str, Any]:
    """Return what tells one input from another without reading it.

    A file whose size and time of change are what they were is believed to be what it was.
    """
    if isinstance(spec, Synthetic):
        return spec.identity()
    try:
        stat = Path(spec).stat()
    except OSError:
        return {}
    return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _same_records(settings: Settings, spec: Spec, digest: str | None) -> bool:
    """Tell whether a file that has been touched still has the records of a digest."""
    if isinstance(spec, Synthetic) or digest is None:
        return False
    return Trace.load(spec, settings.host).digest() == digest
