"""Synthetic traces: a registry of seeded, documented models; docs/workloads.md describes them.

The same name, parameters and seed give the same trace on every machine, whatever the size of the
chunks it is made in, and in every version that has the same number of the generator.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from evtsim.errors import EvtsimError
from evtsim.host import Host
from evtsim.trace import Trace
from evtsim.trace.chunk import Chunk
from evtsim.workloads.attacks import EXHAUST, STORM
from evtsim.workloads.channels import CHANNELS
from evtsim.workloads.fitting import fit
from evtsim.workloads.hostile import HOSTILE
from evtsim.workloads.lifecycle import BOOT, CHURN, MIGRATE
from evtsim.workloads.mixed import MIXED
from evtsim.workloads.parameters import Parameter
from evtsim.workloads.stream import Progress, Stream, Workload
from evtsim.workloads.traffic import IO, IPI, PIRQ, TIMER

if TYPE_CHECKING:
    from evtsim.state import State

REGISTRY: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        *(MIXED, BOOT, IO, IPI, TIMER, PIRQ),
        *(STORM, CHURN, MIGRATE, EXHAUST, HOSTILE, CHANNELS),
    )
}

__all__ = [
    "REGISTRY",
    "Parameter",
    "Stream",
    "Workload",
    "describe",
    "fit",
    "generate",
    "parameters",
    "stream",
    "write",
]


def workload(name: str) -> Workload:
    """Return a workload by its name; an EvtsimError if there is none."""
    if name not in REGISTRY:
        raise EvtsimError(f"no workload {name!r} (expected one of: {', '.join(REGISTRY)})")
    return REGISTRY[name]


def describe(name: str) -> str:
    """Say in one line what a workload is."""
    return workload(name).what


def parameters(name: str) -> dict[str, Any]:
    """Return a workload's parameters with their defaults."""
    return {parameter.name: parameter.default for parameter in workload(name).parameters}


def stream(
    name: str = "mixed",
    *,
    host: Host | None = None,
    start: State | None = None,
    **parameters: Any,
) -> Stream:
    """Make ready to generate a trace of any length, chunk by chunk.

    Parameters
    ----------
    name : str
        A key of REGISTRY.
    host : Host, optional
        The host to run on, in place of one made of ``domains`` and ``vcpus``; dom0 starts the
        domains that are not alive.
    start : State, optional
        A simulator's state, a dump's for one: the load comes on the channels that it has, from
        its last ts on, and nothing is bound. For channels, io, ipi, storm and timer.
    **parameters
        The workload's own; see :func:`parameters` and docs/workloads.md. Numbers may be texts,
        as on the command line: ``records="10M"``, ``duration_ns="2s"``.

    Raises
    ------
    EvtsimError
        There is no such workload or parameter, or a value is out of range.
    """
    return workload(name).stream(parameters, host, start)


def generate(
    name: str = "mixed",
    *,
    host: Host | None = None,
    start: State | None = None,
    progress: Progress | None = None,
    **parameters: Any,
) -> Trace:
    """Generate a trace in memory.

    Parameters are those of :func:`stream`, and ``progress``, which is called with the records
    done and, where that is known, all of them.
    """
    made = stream(name, host=host, start=start, **parameters)
    chunks = [Chunk.of(columns) for columns in made.chunks(progress=progress)]
    return Trace(chunks, made.host, made.meta)


def write(
    path: str | os.PathLike[str],
    name: str = "mixed",
    *,
    host: Host | None = None,
    start: State | None = None,
    progress: Progress | None = None,
    overwrite: bool = True,
    **parameters: Any,
) -> None:
    """Generate a trace into a file, which may be larger than memory.

    Parameters
    ----------
    path : path-like
        Its suffix chooses the format; ``-`` is CSV on stdout.
    overwrite : bool
        Whether a file that is there already may be replaced.
    name, host, start, progress, **parameters
        As for :func:`generate`.
    """
    from evtsim.trace import files

    made = stream(name, host=host, start=start, **parameters)
    with files.writer(path, made.host, made.meta, overwrite=overwrite) as write_chunk:
        for columns in made.chunks(progress=progress):
            write_chunk(columns, None)
