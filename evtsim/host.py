"""What a user configures: the domains of a host and the profile of its Xen."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import abi
from evtsim._files import written_whole
from evtsim.dtypes import DOMAIN_DTYPE
from evtsim.errors import HostError, HostFieldError, reason, shown

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from evtsim.interop.snapshots import Snapshot
    from evtsim.trace import Trace


@dataclasses.dataclass(frozen=True)
class Domain:
    """One domain's configuration.

    Attributes
    ----------
    vcpus : int
        Configured vcpus, 1 to 8,192.
    privileged : bool
        May name other domains in alloc_unbound, status and reset.
    word_bits : {32, 64}
        The guest's word: 1,024 or 4,096 ports under the 2-level ABI.
    nr_pirqs : int
        Physical interrupts that the domain knows, 0 to 65,535.
    pirq_permitted : bool
        May bind them.
    alive : bool
        Exists when the trace begins; else create_domain makes it.
    max_port : int
        The highest port number the toolstack allows. Looked at by xen-4.23 only.
    """

    vcpus: int = 1
    privileged: bool = False
    word_bits: int = 64
    nr_pirqs: int = 0
    pirq_permitted: bool = False
    alive: bool = True
    max_port: int = abi.MAX_PORT_FIFO - 1


DEFAULTS = dataclasses.asdict(Domain())
FLAGS = tuple(name for name, default in DEFAULTS.items() if isinstance(default, bool))

# What each field may hold, and how to say so.
LIMITS: dict[str, tuple[int, int]] = {
    "vcpus": (1, abi.MAX_VCPUS),
    "nr_pirqs": (0, 65_535),
    "max_port": (0, 2**32 - 1),
}


def _field_problem(name: str, value: object) -> str | None:
    """Say what a domain's field should hold if it does not hold that."""
    if name in FLAGS:
        return None if value in (0, 1) else "true or false"
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        return "an integer"
    if name == "word_bits":
        return None if value in (32, 64) else "32 or 64"
    low, high = LIMITS[name]
    return None if low <= value <= high else f"{low} to {high:,}"


def _domain_row(number: int, fields: Mapping[str, Any]) -> tuple[int, ...]:
    """Check one domain's fields and return them in DOMAIN_DTYPE's order."""
    row = []
    for name in DOMAIN_DTYPE.names or ():
        expected = _field_problem(name, fields[name])
        if expected is not None:
            raise HostFieldError(name, fields[name], expected, f"domain {number}: ")
        row.append(int(fields[name]))
    return tuple(row)


class Host:
    """A host: its Xen's profile and its domains, whose ids are their rows.

    Parameters
    ----------
    profile : str
        ``"xen-4.0"``: the code of January 2010 (4.0.0-rc1), or ``"xen-4.23"``: of mid 2026,
        with the FIFO ABI.
    domains : sequence of Domain, or array of DOMAIN_DTYPE
        1 to 32,752 domains.

    Raises
    ------
    HostError
        The profile is unknown, there are no or too many domains, a field makes no sense.
    """

    def __init__(
        self,
        profile: str = "xen-4.0",
        domains: Iterable[Domain] | npt.NDArray[np.void] = (),
    ) -> None:
        if not isinstance(profile, str) or profile not in abi.PROFILES:
            known = ", ".join(abi.PROFILES)
            raise HostError(f"profile {shown(profile)} is not known (expected one of: {known})")
        self.profile = profile
        if isinstance(domains, np.ndarray):
            table = _checked_array(domains)
        elif not isinstance(domains, Iterable):
            raise HostError(f"domains is {shown(domains)} (expected Domains or an array)")
        else:
            domains = list(domains)
            for i, domain in enumerate(domains):
                if not isinstance(domain, Domain):
                    raise HostError(f"domain {i}: {shown(domain)} (expected a Domain)")
            rows = [_domain_row(i, dataclasses.asdict(domain)) for i, domain in enumerate(domains)]
            table = np.array(rows, DOMAIN_DTYPE)
        if not 1 <= len(table) <= abi.MAX_DOMAINS:
            raise HostError(f"{len(table):,} domains (expected 1 to {abi.MAX_DOMAINS:,})")
        table.flags.writeable = False
        self.domains: npt.NDArray[np.void] = table

    @classmethod
    def uniform(
        cls, domains: int, *, profile: str = "xen-4.0", privileged: bool = False, **fields: Any
    ) -> Host:
        """Make a host of equal domains, of which dom0 is privileged.

        Parameters
        ----------
        domains : int
            How many, dom0 included.
        profile : str
            As for :class:`Host`.
        privileged : bool
            Whether all the others are privileged too.
        **fields
            Fields of :class:`Domain` for every domain.
        """
        if (
            isinstance(domains, bool)
            or not isinstance(domains, (int, np.integer))
            or not 1 <= domains <= abi.MAX_DOMAINS
        ):
            raise HostError(f"{domains!r} domains (expected 1 to {abi.MAX_DOMAINS:,})")
        unknown = sorted(fields.keys() - DEFAULTS.keys())
        if unknown:
            raise HostError(f"unknown field {shown(unknown[0])} (expected {', '.join(DEFAULTS)})")
        row = _domain_row(0, {**DEFAULTS, **fields, "privileged": privileged})
        table = np.full(domains, np.array(row, DOMAIN_DTYPE))
        table["privileged"][0] = 1
        return cls(profile, table)

    @classmethod
    def infer(cls, trace: Trace, *, profile: str = "xen-4.0") -> Host:
        """Guess the host that a trace was taken on.

        The rule: as many domains as the largest caller's id asks for, all 64-bit; as many vcpus
        each as its largest caller, bound vcpu or raised VIRQ's vcpu asks for; dom0 privileged
        and allowed to bind PIRQs; as many PIRQs as the largest number asks for. Domains whose
        first own record is create_domain are dead at the start.

        Parameters
        ----------
        trace : Trace
            At least one record.
        """
        from evtsim.trace.inference import infer_domains

        if len(trace) == 0:
            raise HostError("a trace without records does not tell its host")
        return cls(profile, infer_domains(trace))

    @classmethod
    def from_dump(
        cls,
        snapshot: Snapshot,
        *,
        profile: str | None = None,
        vcpus: int | Mapping[int, int] | None = None,
        word_bits: int | Mapping[int, int] | None = None,
        privileged: Collection[int] = (0,),
    ) -> Host:
        """Return the host that a dump was taken of, as far as it tells.

        Domains are those of the dump, by their numbers; numbers between them are not alive.

        Parameters
        ----------
        snapshot : Snapshot
            One of :func:`evtsim.interop.dumps.read`.
        profile : str, optional
            ``"xen-4.0"`` for a dump of 2010's form, else ``"xen-4.23"``, if not given.
        vcpus : int or mapping of domain to int, optional
            As many as the dump has ports on or polls of, if not given.
        word_bits : int or mapping of domain to int, optional
            64 if not given.
        privileged : collection of int
            Domains; dom0 if not given.

        Raises
        ------
        HostError
            What is given does not fit the dump.
        """
        from evtsim.interop.starting import host_of

        return host_of(
            snapshot, profile=profile, vcpus=vcpus, word_bits=word_bits, privileged=privileged
        )

    def port_limits(self, *, fifo: bool = False) -> npt.NDArray[np.int64]:
        """Return how many ports each domain may have, port 0 included: int64, one a domain.

        Parameters
        ----------
        fifo : bool
            Under the FIFO ABI, else under the 2-level one.
        """
        wide = self.domains["word_bits"] == 64
        limits = np.where(wide, abi.MAX_PORT_2L[64], abi.MAX_PORT_2L[32])
        if fifo:
            limits = np.full(len(self), abi.MAX_PORT_FIFO)
        if abi.PROFILES[self.profile].fifo:  # whose Xen looks at max_port
            limits = np.minimum(limits, self.domains["max_port"].astype(np.int64) + 1)
        return limits

    # Files ---------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the host as plain data: equal neighbours once with a count, defaults left out."""
        runs: list[dict[str, Any]] = []
        starts = [0, *(np.flatnonzero(self.domains[1:] != self.domains[:-1]) + 1).tolist()]
        for start, stop in zip(starts, [*starts[1:], len(self.domains)], strict=True):
            row = self.domains[start]
            fields = {
                name: bool(row[name]) if name in FLAGS else int(row[name]) for name in DEFAULTS
            }
            run = {name: value for name, value in fields.items() if value != DEFAULTS[name]}
            runs.append(run if stop - start == 1 else {"count": stop - start, **run})
        return {"profile": self.profile, "domains": runs}

    def to_json_text(self) -> str:
        """Return the canonical JSON: one line, keys sorted."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    def to_json(self, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Write a host file."""
        with written_whole(path, overwrite=overwrite) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1) + "\n")

    @classmethod
    def from_dict(cls, data: object, *, source: str = "host") -> Host:
        """Make a host of what :meth:`to_dict` returned; errors name the source."""
        try:
            return cls(*_parse_host(data))
        except HostError as error:
            raise HostError(f"{source}: {error}") from None

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Host:
        """Read a host file."""
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            problem = reason(error) if isinstance(error, OSError) else "not a text file"
            raise HostError(f"{os.fspath(path)}: {problem}") from None
        return cls.from_json_text(text, source=os.fspath(path))

    @classmethod
    def from_json_text(cls, text: str, *, source: str = "host") -> Host:
        """Read a host from JSON; errors name the source."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            where = f"line {error.lineno}: {error.msg}"
            raise HostError(f"{source}: not JSON ({where})") from None
        except RecursionError:
            raise HostError(f"{source}: not JSON that anybody wrote (nested too deeply)") from None
        except ValueError:  # more digits than Python reads
            raise HostError(f"{source}: not JSON that anybody wrote (a number too long)") from None
        return cls.from_dict(data, source=source)

    # Looking -------------------------------------------------------------------------------------

    def frame(self) -> pd.DataFrame:
        """Return the domains as a DataFrame: dom, then DOMAIN_DTYPE's fields."""
        import pandas as pd

        frame = pd.DataFrame({name: self.domains[name] for name in DEFAULTS})
        frame.insert(0, "dom", np.arange(len(self), dtype=np.uint16))
        return frame

    def __len__(self) -> int:
        return len(self.domains)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Host):
            return NotImplemented
        return self.profile == other.profile and np.array_equal(self.domains, other.domains)

    def __hash__(self) -> int:
        return hash(self.to_json_text())

    def __repr__(self) -> str:
        alive, vcpus = int(self.domains["alive"].sum()), int(self.domains["vcpus"].sum())
        return f"<Host {self.profile}: {len(self):,} domains, {alive:,} alive, {vcpus:,} vcpus>"

    def _repr_html_(self) -> str:
        return f"<b>Host</b> {repr(self)[6:-1]}{self.frame()._repr_html_()}"  # type: ignore[operator]


def _checked_array(domains: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Copy a structured array of domains after looking at every field."""
    missing = [name for name in DEFAULTS if name not in (domains.dtype.names or ())]
    if missing or domains.ndim != 1:
        raise HostError(
            f"domains: no field {', '.join(missing)}" if missing else "domains: not 1-D"
        )
    table = np.zeros(len(domains), DOMAIN_DTYPE)
    for name in DEFAULTS:
        column = domains[name]
        if column.dtype.kind not in "iub":
            raise HostError(f"domains: {name} is of {column.dtype} (expected integers)")
        for value in np.unique(column):
            expected = _field_problem(name, value)
            if expected is not None:
                number = int(np.flatnonzero(column == value)[0])
                raise HostError(f"domain {number}: {name} is {value} (expected {expected})")
        table[name] = column
    return table


def _parse_host(data: object) -> tuple[str, npt.NDArray[np.void]]:
    """Check a host file's data and return profile and domains."""
    if not isinstance(data, dict):
        raise HostError("not an object (expected profile and domains)")
    unknown = sorted(data.keys() - {"profile", "domains"})
    if unknown:
        raise HostError(f"unknown field {shown(unknown[0])} (expected profile, domains)")
    runs = data.get("domains")
    if not isinstance(runs, list) or not runs:
        raise HostError("no domains (expected a list of them)")
    rows, counts = zip(*_parse_runs(runs), strict=True)
    if sum(counts) > abi.MAX_DOMAINS:
        raise HostError(f"{sum(counts):,} domains (expected 1 to {abi.MAX_DOMAINS:,})")
    profile = data.get("profile", "xen-4.0")
    if not isinstance(profile, str):
        raise HostError(f"profile is {shown(profile)} (expected one of: {', '.join(abi.PROFILES)})")
    return profile, np.repeat(np.array(list(rows), DOMAIN_DTYPE), counts)


def _parse_runs(runs: list[Any]) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield the checked fields and the count of each entry of a host file's list."""
    number = 0
    for run in runs:
        if not isinstance(run, dict):
            raise HostError(f"domain {number}: {shown(run)} (expected an object)")
        unknown = sorted(run.keys() - DEFAULTS.keys() - {"count"})
        if unknown:
            names = ", ".join(["count", *DEFAULTS])
            raise HostError(
                f"domain {number}: unknown field {shown(unknown[0])} (expected {names})"
            )
        count = run.get("count", 1)
        if type(count) is not int or not 1 <= count <= abi.MAX_DOMAINS:
            raise HostError(
                f"domain {number}: count is {shown(count)} (expected 1 to {abi.MAX_DOMAINS:,})"
            )
        fields = {**DEFAULTS, **{name: run[name] for name in run.keys() - {"count"}}}
        yield _domain_row(number, fields), count
        number += count
