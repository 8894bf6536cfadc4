"""Parameters, each declared once: checks, listings and docs read it here."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evtsim import abi, draws
from evtsim.errors import ArgumentError, EvtsimError
from evtsim.host import Host

SUFFIXES = {"k": 1e3, "M": 1e6, "G": 1e9}
TIMES = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}


@dataclasses.dataclass(frozen=True)
class Parameter:
    """What can be set, and to what.

    Attributes
    ----------
    name : str
    default : int, float, str or None
        None where the model finds a value by itself. Its type is the values' type.
    low, high : int or float
        The range, both included.
    unit : str
        "" for plain numbers.
    what : str
        One line.
    choices : tuple of str
        The values, instead of a range.
    """

    name: str
    default: int | float | str | None
    low: float
    high: float
    unit: str
    what: str
    choices: tuple[str, ...] = ()

    @property
    def range(self) -> str:
        """Say which values there are."""
        if self.choices:
            return " or ".join(self.choices)
        return f"{_number_text(self.low)} to {_number_text(self.high)}"

    @property
    def default_text(self) -> str:
        """Say the default, - for none."""
        if self.default is None:
            return "-"
        return self.default if isinstance(self.default, str) else _number_text(self.default)

    def read(self, value: object) -> Any:
        """Return a value that fits, from a number or from what people write (10M, 1e6, 20us).

        Raises
        ------
        EvtsimError
            It does not fit.
        """
        if isinstance(value, np.generic):
            value = value.item()
        if type(value) is int and str(value) in self.choices:
            value = str(value)  # 32 bits are a number to most people
        number: Any = value
        if isinstance(value, str) and not self.choices:
            number = _read_number(value, TIMES if self.unit == "ns" else SUFFIXES)
        if not self._fits(number):
            if isinstance(number, (int, float)):
                if isinstance(number, float) and abs(number) < 1e15 and number.is_integer():
                    number = int(number)
                raise ArgumentError(self.name, number, f"{self.range} {self.unit}".rstrip())
            raise ArgumentError(self.name, value, self._written)
        return number if self.choices else self._kind(number)

    @property
    def _written(self) -> str:
        """Say how values are written, to who gave none."""
        if self.choices or self.unit != "ns":
            return f"{self.range} {self.unit}".rstrip()
        return "a time like 300ns, 2us, 1.5ms or 1s"

    @property
    def _kind(self) -> type:
        return float if isinstance(self.default, float) else int

    def _fits(self, number: Any) -> bool:
        if self.choices:
            return isinstance(number, str) and number in self.choices
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            return False
        return self.low <= number <= self.high and self._kind(number) == number


def _number_text(number: float) -> str:
    if isinstance(number, float) and (number >= 1e6 or number != int(number)):
        return f"{number:g}"
    return f"{int(number):,}" if number < 1e12 else f"{number:.3g}"


def _read_number(text: str, suffixes: Mapping[str, float]) -> float | None:
    match = re.fullmatch(r"\s*([-+.\d_]+(?:[eE][-+]?\d+)?)\s*([a-zA-Zµ]*)\s*", text)
    if match is None:
        return None
    digits, suffix = match[1], match[2].replace("µ", "u")
    try:
        if not suffix:
            return int(digits) if re.fullmatch(r"[-+]?[\d_]+", digits) else float(digits)
        return float(digits) * suffixes[suffix]
    except (KeyError, ValueError):
        return None


def read_all(
    workload: str, declared: Sequence[Parameter], given: Mapping[str, object]
) -> dict[str, Any]:
    """Return every declared parameter's value: the given ones, checked, and defaults.

    Raises
    ------
    EvtsimError
        One is not known or does not fit.
    """
    known = {parameter.name: parameter for parameter in declared}
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise EvtsimError(
            f"workload {workload} has no parameter {unknown[0]!r} (expected {', '.join(known)})"
        )
    return {
        name: parameter.read(given[name]) if given.get(name) is not None else parameter.default
        for name, parameter in known.items()
    }


# Kinds of parameters ----------------------------------------------------------------------------


def domains(default: int = 16, low: int = 2) -> Parameter:
    """Declare the number of domains."""
    return Parameter("domains", default, low, abi.MAX_DOMAINS, "", "dom0 included")


def vcpus(default: int = 2, low: int = 1, high: int = 512, what: str = "of a guest") -> Parameter:
    """Declare the number of a domain's vcpus."""
    return Parameter("vcpus", default, low, high, "", what)


def rate(name: str, default: float, what: str, unit: str = "/s") -> Parameter:
    """Declare how often something happens."""
    return Parameter(name, default, 0.01, 1e8, unit, what)


def time(name: str, default: int, what: str) -> Parameter:
    """Declare how long something takes."""
    return Parameter(name, default, 0, draws.MAX_NS, "ns", what)


def share(name: str, default: float, what: str) -> Parameter:
    """Declare a probability."""
    return Parameter(name, default, 0, 1, "", what)


def choice(name: str, choices: tuple[str, ...], what: str, unit: str = "") -> Parameter:
    """Declare one of several words; the first is the default."""
    return Parameter(name, choices[0], 0, 0, unit, what, choices)


# What all workloads have in common ---------------------------------------------------------------

SEED = Parameter("seed", 0, 0, draws.MASK64, "", "another seed, another trace")
RECORDS = Parameter(
    "records", 100_000, 0, 1 << 40, "", "the most, set-up included; no limit beside duration_ns"
)
DURATION = Parameter(
    "duration_ns", None, 0, 1 << 60, "ns", "the longest the trace lasts, set-up included"
)
START = Parameter("start_ns", 0, 0, 1 << 60, "ns", "when it begins")
DELIVER = choice(
    "deliver",
    ("trace", "model"),
    "upcalls are records of the trace, or left to a guest model that replays it",
)
EXTENT = (RECORDS, DURATION, START, SEED, DELIVER)

# Which Xen, and what its guests use of it -------------------------------------------------------

ABI = choice("abi", ("2l", "fifo"), "how guests take events: the 2-level ABI or the FIFO one")
PROFILE = Parameter(
    "profile", None, 0, 0, "", "of the host's Xen; xen-4.23 with abi=fifo, else xen-4.0",
    tuple(abi.PROFILES),
)  # fmt: skip


def profile(values: Mapping[str, Any]) -> str:
    """Return the profile that a workload's parameters ask for."""
    return values["profile"] or ("xen-4.23" if values["abi"] == "fifo" else "xen-4.0")


def wants_fifo(values: Mapping[str, Any], host: Host) -> bool:
    """Tell whether guests use the FIFO ABI; an EvtsimError if the host's Xen lacks it."""
    fifo: bool = values["abi"] == "fifo"
    if fifo and not abi.PROFILES[host.profile].fifo:
        raise EvtsimError(f"abi is fifo, which profile {host.profile} lacks (expected xen-4.23)")
    return fifo
