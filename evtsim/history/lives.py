"""The life of a port: what a replay saw of it, as a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import abi

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.dtypes import Array, Columns
    from evtsim.outcomes import Outcomes

NOT_A_RECORD = -1
"""In the columns `record` and `op`: the guest did it, between two records."""

INVALID = -1
"""The state of a port that is not valid."""

HANDLER, EOI = "handler", "eoi"
"""What the guest did: began to handle the event, or ended its interrupt by an unmask."""

COLUMNS = (
    *("record", "ts", "op", "op_name", "dom", "vcpu"),
    *("from_state", "from_state_name", "to_state", "to_state_name", "pending", "mask"),
    *("rc", "errno_name", "effects"),
)

FIELDS = (
    *("record", "ts", "op", "dom", "vcpu", "from_state", "to_state"),
    *("from_pending", "pending", "from_mask", "mask", "rc", "effects"),
)
"""What is gathered of a change."""


def state_name(state: int) -> str:
    """Name a port's state, that of a port that is not valid too."""
    return "INVALID" if state == INVALID else abi.PortState(state).name


class PortLife:
    """Gathers a port's changes, stretch by stretch.

    Parameters
    ----------
    dom, port : int
        Whose they are.
    """

    def __init__(self, dom: int, port: int) -> None:
        self.dom = dom
        self.port = port
        empty = {name: np.zeros(0, np.int64) for name in FIELDS}
        self._parts: list[dict[str, Array]] = [empty | {"ts": np.zeros(0, np.uint64)}]

    def add(self, start: int, columns: Columns, outcomes: Outcomes, changes: Array) -> None:
        """Add the changes of a stretch that begins with record `start`."""
        record = changes["record"]
        of_record = record >= 0
        row = np.where(of_record, record, 0)
        assert outcomes.rc is not None
        assert outcomes.effects is not None

        def pick(column: Array, otherwise: int | Array) -> Array:
            return np.where(of_record, column[row].astype(np.int64), otherwise)

        self._parts.append(
            {
                "record": np.where(of_record, record + start, NOT_A_RECORD),
                "ts": changes["ts"].copy(),
                "op": pick(columns.op, NOT_A_RECORD),
                "dom": pick(columns.dom, self.dom),
                "vcpu": pick(columns.vcpu, changes["vcpu"]),
                "from_state": changes["from_state"].copy(),
                "to_state": changes["state"].copy(),
                "from_pending": changes["from_pending"].copy(),
                "pending": changes["pending"].copy(),
                "from_mask": changes["from_mask"].copy(),
                "mask": changes["mask"].copy(),
                "rc": pick(outcomes.rc, 0),
                "effects": pick(outcomes.effects, 0),
            }
        )

    def _joined(self) -> dict[str, Array]:
        return {name: np.concatenate([part[name] for part in self._parts]) for name in FIELDS}

    def last(self, field: str, before: int) -> dict[str, Any] | None:
        """Return the last row before a record that changed "pending" or "mask", or None."""
        rows = self._joined()
        changed = (rows[field] != rows[f"from_{field}"]) & (rows["record"] != before)
        found = np.flatnonzero(changed)
        return {name: int(rows[name][found[-1]]) for name in rows} if len(found) else None

    def frame(self) -> pd.DataFrame:
        """Return the life as a DataFrame; docs/history.md has the columns."""
        import pandas as pd

        from evtsim.frames import errno_names

        rows = self._joined()
        place = np.zeros(max(abi.Op) + 1, np.int64)
        place[list(abi.Op)] = np.arange(len(abi.Op))
        guests = len(abi.Op) + (rows["pending"] == rows["from_pending"])
        codes = np.where(rows["op"] == NOT_A_RECORD, guests, place[rows["op"]])
        names = pd.Index([*(abi.op_name(op) for op in abi.Op), HANDLER, EOI])
        states = [state_name(state) for state in (INVALID, *abi.PortState)]
        columns: dict[str, Any] = {name: rows.get(name) for name in COLUMNS}
        columns["op_name"] = pd.Categorical.from_codes(codes, categories=names)
        for side in ("from_state", "to_state"):
            columns[f"{side}_name"] = pd.Categorical.from_codes(
                rows[side] - INVALID, categories=pd.Index(states)
            )
        columns["errno_name"] = errno_names(rows["rc"])
        return pd.DataFrame(columns)
