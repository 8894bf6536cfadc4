"""What every record of a replay answered and did, as columns."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from evtsim import abi
from evtsim.dtypes import OUTCOME_DTYPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    import pandas as pd

    from evtsim.dtypes import Array

FIELDS: tuple[str, ...] = OUTCOME_DTYPE.names or ()


@dataclasses.dataclass(frozen=True, eq=False)
class Outcomes:
    """Outcomes of a stretch of records, one value a record and field.

    Recorded outcomes of a trace may lack fields (None); those of a replay have all.

    Attributes
    ----------
    rc : ndarray of int32
        0 or a negative errno.
    port : ndarray of uint32
        The port given back; status: its code; upcall: events delivered; poll: 1 where it
        returned at once; raise_virq, raise_pirq: the bound port. 0 where it does not apply.
    vcpu : ndarray of uint16
        status: the notify vcpu.
    remote_dom : ndarray of uint16
        status: the remote domain.
    remote_port : ndarray of uint32
        status: the remote port, or a VIRQ's or PIRQ's number.
    effects : ndarray of uint16
        Flags of abi.Effect.
    """

    rc: npt.NDArray[np.int32] | None = None
    port: npt.NDArray[np.uint32] | None = None
    vcpu: npt.NDArray[np.uint16] | None = None
    remote_dom: npt.NDArray[np.uint16] | None = None
    remote_port: npt.NDArray[np.uint32] | None = None
    effects: npt.NDArray[np.uint16] | None = None

    @classmethod
    def zeros(cls, records: int) -> Outcomes:
        """Make outcomes for a replay to fill; pages that stay zero are never touched."""
        return cls(**{name: np.zeros(records, OUTCOME_DTYPE[name]) for name in FIELDS})

    @classmethod
    def concat(cls, parts: list[Outcomes]) -> Outcomes:
        """Join outcomes end to end, keeping the fields that all of them have."""
        names = [name for name in FIELDS if all(name in dict(part.fields()) for part in parts)]
        return cls(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})

    def fields(self) -> Iterator[tuple[str, Array]]:
        """Yield the name and column of each field that there is."""
        for name in FIELDS:
            column = getattr(self, name)
            if column is not None:
                yield name, column

    def __len__(self) -> int:
        return next((len(column) for _, column in self.fields()), 0)

    def __getitem__(self, records: slice) -> Outcomes:
        return Outcomes(**{name: column[records] for name, column in self.fields()})

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame: the fields that there are, then a categorical errno_name."""
        import pandas as pd

        from evtsim.frames import errno_names

        frame = pd.DataFrame(dict(self.fields()), copy=True)
        if self.rc is not None:
            frame["errno_name"] = errno_names(self.rc)
        return frame

    def __repr__(self) -> str:
        return (
            f"<Outcomes of {len(self):,} records: {', '.join(name for name, _ in self.fields())}>"
        )


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one operation answered and did, as :meth:`Simulator.call` returns it."""

    rc: int
    port: int
    vcpu: int
    remote_dom: int
    remote_port: int
    effects: abi.Effect

    def __repr__(self) -> str:
        rest = {name: getattr(self, name) for name in FIELDS[1:-1] if getattr(self, name)}
        words = [f"rc={self.rc}" + (f" ({abi.errno_name(self.rc)})" if self.rc else "")]
        words += [f"{name}={value}" for name, value in rest.items()]
        words += [f"effects={self.effects.name}"] if self.effects else []
        return f"Answer({', '.join(words)})"
