"""Synthetic traces: a registry of seeded generators, one module a family.

The same name, parameters and seed give the same trace on every machine and in every version
that has the same number of the generator.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from evtsim.errors import EvtsimError
from evtsim.trace import Trace
from evtsim.workloads import channels

REGISTRY: dict[str, Callable[..., Trace]] = {"channels": channels.generate}

__all__ = ["REGISTRY", "describe", "generate", "parameters"]


def _generator(name: str) -> Callable[..., Trace]:
    if name not in REGISTRY:
        raise EvtsimError(f"no workload {name!r} (expected one of: {', '.join(REGISTRY)})")
    return REGISTRY[name]


def describe(name: str) -> str:
    """Say in one line what a workload is."""
    return (inspect.getdoc(_generator(name)) or "").partition("\n")[0]


def parameters(name: str) -> dict[str, Any]:
    """Return a workload's parameters with their defaults."""
    return {
        parameter.name: parameter.default
        for parameter in inspect.signature(_generator(name)).parameters.values()
    }


def generate(name: str, *, records: int = 100_000, seed: int = 0, **parameters: Any) -> Trace:
    """Generate a trace.

    Parameters
    ----------
    name : str
        A key of REGISTRY.
    records : int
        How many records, set-up included.
    seed : int
        0 to 2**64 - 1.
    **parameters
        The workload's own; see :func:`parameters`.

    Raises
    ------
    EvtsimError
        There is no such workload or parameter, or a value is out of range.
    """
    generator = _generator(name)
    known = inspect.signature(generator).parameters
    unknown = sorted(parameters.keys() - known.keys())
    if unknown:
        raise EvtsimError(
            f"workload {name} has no parameter {unknown[0]!r} (expected {', '.join(known)})"
        )
    given = {"records": records, "seed": seed, **parameters}
    plain = {n: v.item() if isinstance(v, np.generic) else v for n, v in given.items()}
    return generator(**plain)
