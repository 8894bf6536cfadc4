"""What a dump says: the ports and domains of one moment, as frames, and what was unreadable."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim.abi import FIFO_LINK_MASK, FIFO_PAGE_WORDS, EventWord, PortState
from evtsim.frames import state_names

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.dtypes import Array
    from evtsim.host import Host
    from evtsim.state import State

NOT_SAID = -1
"""In a frame of a snapshot: the dump does not say."""

PORT_COLUMNS = {
    "dom": np.uint16,
    "port": np.uint32,
    "state": np.uint8,
    "notify_vcpu": np.uint16,
    "xen": np.uint8,
    "remote_dom": np.uint16,
    "remote_port": np.uint32,
    "irq": np.uint32,
    "host_irq": np.int32,
    "pending": np.int8,
    "mask": np.int8,
    "selector": np.int8,
    "word": np.int8,
    "busy": np.int8,
    "linked": np.int8,
    "link": np.uint32,
    "line": np.int64,
}

FORMS = ("e", "e-2010", "lsevtchn")


@dataclasses.dataclass(frozen=True)
class Problem:
    """A line inside a dump that was left out.

    Attributes
    ----------
    line : int
        Its number in the log, from 1.
    what : str
        Why.
    text : str
        The line, shortened.
    """

    line: int
    what: str
    text: str = ""

    def __str__(self) -> str:
        return f"line {self.line}: {self.what}" + (f": {self.text!r}" if self.text else "")


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
    """The event channels of a host at one moment, as far as a dump tells.

    Attributes
    ----------
    ports : pandas.DataFrame
        Ports in use, by dom and port: dom, port, state (abi.PortState), state_name,
        notify_vcpu, xen (Xen's x=, 0 for a guest's own), remote_dom, remote_port, irq (VIRQ or
        PIRQ), host_irq (Xen's i= of a PIRQ), pending, mask, selector (the bit of the port's word
        in its vcpu's selector, 2-level ABI), word (0: the port has no event word, FIFO ABI),
        busy, linked, link (of the event word), label (Xen's Z=), line (in the log, from 1).
        0 where a column does not apply, -1 where the dump does not say.
    domains : pandas.DataFrame
        Domains that the dump lists, in order: dom, abi ("2l", "fifo", "" where nothing tells),
        polling (a tuple of vcpus), line.
    form : str
        "e" (debug key e), "e-2010" (the same of 2010's Xen), "lsevtchn".
    source : str
        The log's name.
    line, last_line : int
        Where in the log it begins and ends, from 1; 0 if it comes from no log.
    time : str
        The timestamp of its first line, as it stands there; may be empty.
    problems : tuple of Problem
        Lines inside it that could not be read.
    """

    ports: pd.DataFrame
    domains: pd.DataFrame
    form: str = "e"
    source: str = ""
    line: int = 0
    last_line: int = 0
    time: str = ""
    problems: tuple[Problem, ...] = ()

    @classmethod
    def of(cls, state: State) -> Snapshot:
        """Return what a dump of a simulated state says: reading its text gives the same."""
        import pandas as pd

        alive = state.domains()
        ports = state.ports()
        ports = ports[(ports["state"] != PortState.FREE) & (ports["port"] > 0)]
        dom, port = (ports[name].to_numpy(np.int64) for name in ("dom", "port"))
        modern = state.tables.modern is not None
        columns: dict[str, Any] = {
            name: ports[name].to_numpy() for name in PORT_COLUMNS if name in ports.columns
        }
        tells_irq = modern & (ports["state"] == PortState.PIRQ)
        columns["host_irq"] = np.where(tells_irq, ports["irq"], NOT_SAID)
        columns |= _third_field(state, dom, port, ports["notify_vcpu"].to_numpy(np.int64), modern)
        vcpus = state.vcpus()
        polling = vcpus[vcpus["polling"] == 1].groupby("dom")["vcpu"].agg(tuple)
        if not modern:  # one word of the poll mask is printed
            polling = polling.map(lambda numbers: tuple(n for n in numbers if n < 64))
        listed = set(columns["dom"].tolist())
        domains = pd.DataFrame(
            {
                "dom": alive["dom"].to_numpy(np.uint16),
                "abi": [
                    ("fifo" if fifo else "2l") if dom in listed or not modern else ""
                    for dom, fifo in zip(alive["dom"], alive["fifo"], strict=True)
                ],
                "polling": [polling.get(dom, ()) for dom in alive["dom"]],
                "line": np.zeros(len(alive), np.int64),
            }
        )
        return cls(port_frame(columns), domains, "e" if modern else "e-2010", repr(state))

    def contradictions(self, host: Host | None = None) -> list[str]:
        """Return what of the dump a simulation does not take as it is, and what it makes of it.

        Parameters
        ----------
        host : Host, optional
            :meth:`evtsim.Host.from_dump`'s, if not given.
        """
        from evtsim.interop.starting import host_of, state_of

        return state_of(self, host_of(self) if host is None else host)[1]

    def domain(self, dom: int) -> pd.DataFrame:
        """Return a domain's ports."""
        return self.ports[self.ports["dom"] == dom]

    def __repr__(self) -> str:
        where = f", line {self.line:,}" if self.line else ""
        counts = f"{len(self.domains):,} domains, {len(self.ports):,} ports"
        return f"<Snapshot ({self.form}{where}): {counts}>"


def rows_of(frame: pd.DataFrame) -> Any:
    """Return a frame's rows, their columns as attributes (of no type that mypy can know)."""
    return frame.itertuples()


def port_frame(columns: dict[str, Any]) -> pd.DataFrame:
    """Make the frame of ports; columns that are not given are 0, those of bits not said."""
    import pandas as pd

    count = len(columns["port"])
    frame: dict[str, Any] = {}
    for name, dtype in PORT_COLUMNS.items():
        absent = NOT_SAID if dtype is np.int8 or name == "host_irq" else 0
        frame[name] = np.asarray(columns.get(name, np.full(count, absent))).astype(dtype)
        if name == "state":
            frame["state_name"] = state_names(frame["state"])
        if name == "link":
            frame["label"] = np.asarray(columns.get("label", np.full(count, "")), object)
    return pd.DataFrame(frame)


def _third_field(
    state: State, dom: Array, port: Array, vcpu: Array, modern: bool
) -> dict[str, Any]:
    """Return what Xen prints after pending and mask: the selector's bit, or the event word."""
    if not modern:
        return {}
    domains = state.tables.domains
    fifo = domains["fifo"][dom] != 0
    row = domains["first_vcpu"][dom].astype(np.int64) + vcpu
    number = port >> domains["word_shift"][dom]
    bit = np.uint64(1) << np.minimum(number, 63).astype(np.uint64)
    told = (number < 64) & (state.tables.vcpus["pending_sel"][row] & bit != 0)
    has, words = np.zeros(len(dom), bool), np.zeros(len(dom), np.int64)
    if fifo.any():
        has = fifo & (port < domains["event_pages"][dom].astype(np.int64) * FIFO_PAGE_WORDS)
        known = state.event_words()  # those that are not 0, in order
        keys = known["dom"].to_numpy(np.int64) << 17 | known["port"].to_numpy(np.int64)
        place = np.searchsorted(keys, dom << 17 | port)
        found = np.append(keys, -1)[place] == dom << 17 | port
        words = np.where(has & found, np.append(known["word"].to_numpy(np.int64), 0)[place], 0)
    linked = (words & EventWord.LINKED != 0).astype(np.int64)

    def under_fifo(values: Array) -> Array:
        return np.where(fifo, values, NOT_SAID)

    return {
        "selector": np.where(fifo, NOT_SAID, told),
        "word": under_fifo(has),
        "busy": under_fifo(words & EventWord.BUSY != 0),
        "linked": under_fifo(linked),
        "link": np.where(linked == 1, words & FIFO_LINK_MASK, 0),
    }
