"""What a user configures of the guests: how long a vcpu takes to wake up and to handle an event.

How a guest behaves is in ``kernels/guest.py``; docs/guest.md tells it in words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from evtsim import draws
from evtsim.dtypes import GUEST_CONFIG, Array
from evtsim.errors import ArgumentError, EvtsimError, shown

SCANS = ("lowest", "linux")
EOIS = ("edge", "late")


def _check(name: str, value: Any, low: float, high: float, *, whole: bool = False) -> Any:
    """Return a number as Python's own, or raise an EvtsimError unless it is one within bounds."""
    kind = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        what, unit = "an integer of " if whole else "", " ns" if name.endswith("ns") else ""
        raise ArgumentError(name, value, f"{what}{low:,} to {high:,}{unit}")
    return value.item() if isinstance(value, np.generic) else value


@dataclasses.dataclass(frozen=True)
class Constant:
    """Always the same time.

    Attributes
    ----------
    ns : int
        0 to 2**38.
    """

    ns: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "ns", round(_check("ns", self.ns, 0, draws.MAX_NS)))

    def _row(self) -> tuple[int, int, int]:
        return 0, self.ns, 0


@dataclasses.dataclass(frozen=True)
class Exponential:
    """Times of an exponential distribution.

    Attributes
    ----------
    mean_ns : float
        0 to 2**38.
    """

    mean_ns: float

    def __post_init__(self) -> None:
        mean = _check("mean_ns", self.mean_ns, 0, draws.MAX_NS)
        object.__setattr__(self, "mean_ns", mean)

    def _row(self) -> tuple[int, int, int]:
        return 1, draws.exponential_scale(self.mean_ns), 0


@dataclasses.dataclass(frozen=True)
class Lognormal:
    """Times whose logarithm is normal.

    Attributes
    ----------
    median_ns : float
        0 to 2**38; rounded to a whole number.
    sigma : float
        Standard deviation of the natural logarithm, 0 to 2.
    """

    median_ns: float
    sigma: float

    def __post_init__(self) -> None:
        for name, high in (("median_ns", draws.MAX_NS), ("sigma", draws.MAX_SIGMA)):
            object.__setattr__(self, name, _check(name, getattr(self, name), 0, high))

    def _row(self) -> tuple[int, int, int]:
        return 2, round(self.median_ns), draws.lognormal_spread(self.sigma)


Duration = Constant | Exponential | Lognormal
DURATIONS: dict[str, type[Duration]] = {
    "constant": Constant,
    "exponential": Exponential,
    "lognormal": Lognormal,
}


def _duration(name: str, value: object) -> Duration:
    """Take a duration, or a plain number as a constant one."""
    if isinstance(value, Duration):
        return value
    if isinstance(value, (int, float, np.integer, np.floating)):
        try:
            return Constant(value)  # type: ignore[arg-type]  # which rounds
        except EvtsimError as error:
            raise EvtsimError(f"{name}: {error}") from None
    raise EvtsimError(f"{name} is {shown(value)} (expected ns, Constant, Exponential or Lognormal)")


@dataclasses.dataclass(frozen=True)
class Guest:
    """How the vcpus of all domains handle their events.

    With a guest, upcall records of the trace do nothing: every kick of an idle vcpu starts its
    handler after a wake time. Times are drawn by (seed, domain, vcpu, number), so that they do
    not depend on what other domains do or on how a trace is cut.

    Parameters
    ----------
    wake_ns : Constant, Exponential, Lognormal or number
        From the kick of an idle vcpu until its handler starts, in ns.
    handler_ns : Constant, Exponential, Lognormal or number
        What handling one event takes, in ns.
    scan : {"linux", "lowest"}
        In which order pending ports are handled: as Linux's ``evtchn_2l_handle_events`` does,
        which goes on where it last was, or always from the lowest port.
    eoi : {"edge", "late"}
        ``"late"``: a port is masked while it is handled and until ``eoi_ns`` after, as by Linux's
        xen-dyn-lateeoi.
    eoi_ns : int
        From the end of an event's handling to its unmask, in ns; with ``eoi="late"``.
    seed : int
        0 to 2**64 - 1.
    overrides : mapping of int to Guest, optional
        Guests of single domains, which have no overrides of their own.

    Raises
    ------
    EvtsimError
        A value makes no sense.

    Examples
    --------
    >>> import evtsim
    >>> evtsim.Guest(wake_ns=evtsim.Exponential(5_000), eoi="late")
    Guest(wake_ns=Exponential(mean_ns=5000), handler_ns=Constant(ns=300), eoi='late')
    """

    wake_ns: Duration = Constant(2000)
    handler_ns: Duration = Constant(300)
    scan: str = "linux"
    eoi: str = "edge"
    eoi_ns: int = 0
    seed: int = 0
    overrides: Mapping[int, Guest] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("wake_ns", "handler_ns"):
            object.__setattr__(self, name, _duration(name, getattr(self, name)))
        for name, known in (("scan", SCANS), ("eoi", EOIS)):
            if getattr(self, name) not in known:
                value = shown(getattr(self, name))
                raise EvtsimError(f"{name} is {value} (expected {' or '.join(map(repr, known))})")
        eoi_ns = round(_check("eoi_ns", self.eoi_ns, 0, draws.MAX_NS))
        object.__setattr__(self, "eoi_ns", eoi_ns)
        seed = _check("seed", self.seed, 0, draws.MASK64, whole=True)
        object.__setattr__(self, "seed", seed)
        if not isinstance(self.overrides, Mapping):
            raise EvtsimError(f"overrides is {shown(self.overrides)} (expected domain: Guest)")
        for dom, guest in self.overrides.items():
            _check("overrides: a domain", dom, 0, 65_535, whole=True)
            if not isinstance(guest, Guest) or guest.overrides:
                raise EvtsimError(
                    f"overrides: domain {dom} has {shown(guest)} (expected a Guest without any)"
                )

    def __repr__(self) -> str:
        always = ("wake_ns", "handler_ns")
        fields = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if field.name in always or getattr(self, field.name) not in (field.default, {})
        ]
        return f"Guest({', '.join(fields)})"

    # Files and kernels ---------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the guest as plain data."""
        data: dict[str, Any] = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }
        for name in ("wake_ns", "handler_ns"):
            value = data[name]
            data[name] = {type(value).__name__.lower(): dataclasses.asdict(value)}
        data["overrides"] = {str(dom): guest.to_dict() for dom, guest in self.overrides.items()}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Guest:
        """Make a guest of what :meth:`to_dict` returned."""
        fields = dict(data)
        for name in ("wake_ns", "handler_ns"):
            ((kind, values),) = fields[name].items()
            fields[name] = DURATIONS[kind](**values)
        fields["overrides"] = {int(d): cls.from_dict(g) for d, g in fields["overrides"].items()}
        return cls(**fields)

    def table(self, domains: int) -> tuple[Array, Array]:
        """Return the distinct guests as GUEST_CONFIG, and each domain's row there.

        Raises
        ------
        EvtsimError
            An override is for a domain that the host does not have.
        """
        which = np.zeros(domains, np.int64)
        rows = [self._config()]
        for dom, guest in self.overrides.items():
            if dom >= domains:
                raise EvtsimError(f"overrides: domain {dom} (expected 0 to {domains - 1})")
            which[dom] = len(rows)
            rows.append(guest._config())
        return np.array(rows, GUEST_CONFIG), which

    def _config(self) -> tuple[int, ...]:
        scan, late = SCANS.index(self.scan), EOIS.index(self.eoi)
        times = (*self.wake_ns._row(), *self.handler_ns._row())
        return (*times, int(self.eoi_ns), int(self.seed), scan, late)
