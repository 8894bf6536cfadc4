"""What the hosts of a fleet are: traces in files, or workloads that a worker generates."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from evtsim.errors import NO_FILE, EvtsimError, shown
from evtsim.trace.files import FORMATS
from evtsim.workloads import workload
from evtsim.workloads.parameters import read_all


@dataclasses.dataclass(frozen=True)
class Synthetic:
    """A host whose trace is generated where it is replayed, and never written.

    Attributes
    ----------
    workload : str
        A key of :data:`evtsim.workloads.REGISTRY`.
    seed : int
    parameters : mapping
        The workload's own, as for :func:`evtsim.workloads.generate`.

    Raises
    ------
    EvtsimError
        There is no such workload or parameter, or a value is out of range.

    Examples
    --------
    >>> from evtsim import fleet
    >>> [fleet.Synthetic("io", seed, {"records": "1M"}) for seed in range(2)]
    [Synthetic('io', seed=0, records='1M'), Synthetic('io', seed=1, records='1M')]
    """

    workload: str
    seed: int = 0
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.parameters, Mapping) or "seed" in self.parameters:
            text = shown(self.parameters)
            raise EvtsimError(f"parameters is {text} (expected name: value, and seed by itself)")
        self._values()

    def _values(self) -> dict[str, Any]:
        declared = workload(self.workload).parameters
        return read_all(self.workload, declared, {**self.parameters, "seed": self.seed})

    def identity(self) -> dict[str, Any]:
        """Return what decides the trace, apart from the version of evtsim."""
        values = self._values()
        given = {name: values[name] for name in sorted(self.parameters)}
        return {"workload": self.workload, "seed": values["seed"], "parameters": given}

    def __str__(self) -> str:
        return f"{self.workload}, seed {self.seed}"

    def __repr__(self) -> str:
        parameters = "".join(f", {name}={value!r}" for name, value in self.parameters.items())
        return f"Synthetic({self.workload!r}, seed={self.seed}{parameters})"


Spec: TypeAlias = str | Synthetic
"""A path, absolute, since workers have a working directory of their own; or a workload."""

Given: TypeAlias = str | os.PathLike[str] | Synthetic
Specs: TypeAlias = Given | Iterable[Given] | Mapping[str, Given]


def named(specs: Specs) -> dict[str, Spec]:
    """Return hosts by their names.

    Parameters
    ----------
    specs : path-like, Synthetic, iterable or mapping
        Paths (patterns such as ``traces/*.arrow`` too) and workloads. A mapping has the names
        as keys. Else a host is called as its file is without suffix, with the suffix or the
        whole path where that does not tell files apart; or by its workload and seed.

    Raises
    ------
    EvtsimError
        There is no host, or two have the same name.
    """
    if isinstance(specs, Mapping):
        if not all(isinstance(name, str) and name for name in specs):
            raise EvtsimError(f"hosts are called {shown(list(specs))} (expected words)")
        hosts = {name: _spec(given) for name, given in specs.items()}
    else:
        given = specs if isinstance(specs, Iterable) and not isinstance(specs, str) else [specs]
        found = list({_spec(each): each for one in given for each in _matching(one)}.values())
        for name_of in (_stem, os.path.basename, str):
            names = [name_of(one) if isinstance(one, str) else _label(one) for one in found]
            if len(set(names)) == len(names):
                break
        else:
            twice = Counter(names).most_common(1)[0][0]
            raise EvtsimError(f"two hosts are called {twice!r} (a mapping gives them names)")
        hosts = {name: _spec(one) for name, one in zip(names, found, strict=True)}
    if not hosts:
        raise EvtsimError("no hosts (expected at least one trace or workload)")
    return hosts


def _matching(given: Any) -> list[str | Synthetic]:
    """Return what a pattern stands for, or the one that is no pattern."""
    if isinstance(given, Synthetic):
        return [given]
    path = _path(given)
    if not glob.has_magic(path) or Path(path).exists():
        return [path]
    found = sorted(glob.glob(path, recursive=True))  # noqa: PTH207  # of an absolute path too
    if not found:
        raise EvtsimError(f"{path}: {NO_FILE}")
    return list(found)


def _spec(given: Any) -> Spec:
    return given if isinstance(given, Synthetic) else os.path.abspath(_path(given))  # noqa: PTH100


def _path(given: Any) -> str:
    if not isinstance(given, (str, os.PathLike)) or os.fspath(given) == "-":
        raise EvtsimError(f"a host is {shown(given)} (expected a trace's path or a Synthetic)")
    return os.fspath(given)


def _stem(path: str) -> str:
    """Return a file's name without the suffix of a trace."""
    name = os.path.basename(path)  # noqa: PTH119
    return next((name.removesuffix(end) for end in FORMATS if name.endswith(end)), name)


def _label(given: Any) -> str:
    return f"{given.workload}-{given.seed}" if isinstance(given, Synthetic) else str(given)
