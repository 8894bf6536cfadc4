"""A record and the state that it finds, to be asked what Xen asks. Nothing here decides or changes.

Small and slow: one record at a time, by plain integers.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from evtsim import abi
from evtsim.abi import EventWord, PortState
from evtsim.dtypes import XEN_HERE, Array, Columns
from evtsim.state import State
from evtsim.tables import word_places

DOMID_MASK = 0xFFFF
"""Of a domain id in an argument Xen's structs keep 16 bits."""

NAMED = {abi.DOMID_SELF: "DOMID_SELF"}


@dataclasses.dataclass(frozen=True)
class Port:
    """One valid port as it is.

    Attributes
    ----------
    dom, port : int
    state : PortState
    notify_vcpu : int
    xen : bool
        Attached to Xen at this end.
    remote_dom, remote_port : int
        As the state has them; of VIRQ and PIRQ, remote_port is the number.
    pending, mask : bool
        Of the ABI in use.
    """

    dom: int
    port: int
    state: PortState
    notify_vcpu: int
    xen: bool
    remote_dom: int
    remote_port: int
    pending: bool
    mask: bool

    @property
    def usable(self) -> bool:
        """Whether it is in use and not attached to Xen (evtchn_usable)."""
        return self.state > PortState.RESERVED and not self.xen

    def __str__(self) -> str:
        return f"dom {self.dom}'s port {self.port}"


class View:
    """A state, to be asked about single domains, vcpus and ports."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.tables = state.tables
        self.profile = abi.PROFILES[state.host.profile]
        self.modern = self.profile.fifo

    def configured(self, dom: int) -> bool:
        """Whether the host has such a domain."""
        return dom < len(self.tables.domains)

    def domain(self, dom: int, field: str) -> int:
        """Return a field of DOMAIN_TABLE."""
        return int(self.tables.domains[dom][field])

    def alive(self, dom: int) -> bool:
        """Whether there is such a domain and it exists."""
        return self.configured(dom) and self.domain(dom, "alive") != 0

    def fifo(self, dom: int) -> bool:
        """Whether the domain is under the FIFO ABI."""
        return self.domain(dom, "fifo") != 0

    def of_vcpu(self, dom: int, vcpu: int, field: str) -> int:
        """Return a field of VCPU_TABLE, of a configured vcpu."""
        return int(self.tables.vcpus[self.row(dom, vcpu)][field])

    def row(self, dom: int, vcpu: int) -> int:
        """Return the row of a vcpu in the vcpu table."""
        return self.domain(dom, "first_vcpu") + vcpu

    def valid(self, dom: int, port: int) -> bool:
        """Whether the port's bucket exists (port_is_valid)."""
        return port < self.domain(dom, "nr_ports")

    def port(self, dom: int, port: int) -> Port:
        """Return a valid port."""
        return self._read(dom, np.array([port]))[0]

    def _read(self, dom: int, ports: Array) -> list[Port]:
        """Return valid ports of a domain."""
        doms = np.full(len(ports), dom)
        rows = self.tables.ports[self.state.pool_index(doms, ports)]
        pending, mask = self.state.bits(doms, ports)
        columns = (
            ports,
            rows["state"],
            rows["notify_vcpu"],
            rows["xen"] & XEN_HERE != 0,
            rows["remote_dom"],
            rows["remote_port"],
            pending,
            mask,
        )
        values = zip(*(column.tolist() for column in columns), strict=True)
        return [Port(dom, port, PortState(state), *rest) for port, state, *rest in values]

    def bits(self, dom: int, port: int) -> tuple[bool, bool]:
        """Return pending and mask of a living domain's port, valid or not."""
        pending, mask = self.state.bits(np.array([dom]), np.array([port]))
        return bool(pending[0]), bool(mask[0])

    def ports(self, dom: int) -> list[Port]:
        """Return a domain's ports that are in use, in order."""
        return self._read(dom, np.flatnonzero(self.states(dom) > PortState.RESERVED))

    def states(self, dom: int) -> Array:
        """Return the states of all valid ports of a domain."""
        ports = np.arange(self.domain(dom, "nr_ports"))
        index = self.state.pool_index(np.full(len(ports), dom), ports)
        states: Array = self.tables.ports["state"][index]
        return states

    def pending(self, dom: int) -> set[int]:
        """Return which of a domain's valid ports are pending."""
        ports = np.arange(self.domain(dom, "nr_ports"))
        pending, _ = self.state.bits(np.full(len(ports), dom), ports)
        return {int(port) for port in np.flatnonzero(pending)}

    def word(self, dom: int, port: int) -> int | None:
        """Return the event word of a port under the FIFO ABI, or None if it has none."""
        if port >> 10 >= self.domain(dom, "event_pages"):
            return None
        return int(self.tables.event_words[word_places(self.tables, dom, port)])

    def in_reach(self, dom: int, port: int) -> bool:
        """Whether the guest's memory has bits for the port, valid or not."""
        if self.fifo(dom):
            return self.word(dom, port) is not None
        return port < self.abi_limit(dom)

    def abi_limit(self, dom: int) -> int:
        """Return how many ports the 2-level ABI has for the domain."""
        return 1 << (2 * self.domain(dom, "word_shift"))

    def has_free_port(self, dom: int) -> bool:
        """Whether get_free_port would find one: FREE and not busy, or in a bucket to come."""
        limit = self.domain(dom, "max_ports")
        if self.domain(dom, "nr_ports") < limit:
            return True
        free = np.flatnonzero(self.states(dom)[:limit] == PortState.FREE)
        return any(not self.linked(dom, int(port)) for port in free)

    def linked(self, dom: int, port: int) -> bool:
        """Whether a port is linked in a queue of the FIFO ABI; a FREE one is busy then."""
        return self.fifo(dom) and bool((self.word(dom, port) or 0) & EventWord.LINKED)

    def virq_port(self, dom: int, virq: int, vcpu: int) -> int:
        """Return the port that is bound to a VIRQ, or 0; of a global one the vcpu is 0."""
        own = vcpu if virq in self.profile.vcpu_virqs else 0
        return int(self.tables.virqs[virq, self.row(dom, own)])

    def pirq_port(self, dom: int, pirq: int) -> int:
        """Return the port that is bound to a PIRQ that the domain knows, or 0."""
        return int(self.tables.pirqs[self.domain(dom, "first_pirq") + pirq])

    def blocked(self, dom: int) -> set[int]:
        """Return which vcpus of a domain are blocked in a poll."""
        first = self.domain(dom, "first_vcpu")
        rows = self.tables.vcpus[first : first + self.domain(dom, "nr_vcpus")]
        return {int(vcpu) for vcpu in np.flatnonzero(rows["blocked"])}

    def has_control(self, dom: int, vcpu: int) -> bool:
        """Whether a vcpu has a control block of the FIFO ABI."""
        return bool(self.modern and self.tables.vcpu_fifo[self.row(dom, vcpu)]["control"])

    def ready(self, dom: int, vcpu: int) -> int:
        """Return the ready bits in a vcpu's control block, a bit a priority."""
        return int(self.tables.vcpu_fifo[self.row(dom, vcpu)]["ready"])

    def queue(self, dom: int, vcpu: int, priority: int) -> Any:
        """Return a queue of the FIFO ABI: head, tail, local_head."""
        return self.tables.queues[self.row(dom, vcpu), priority]

    def port_fifo(self, dom: int, port: int, field: str) -> int:
        """Return what the FIFO ABI keeps of a valid port: a field of PORT_FIFO."""
        index = self.state.pool_index(np.array([dom]), np.array([port]))[0]
        return int(self.tables.port_fifo[index][field])


class Moment(View):
    """A record and the state that it finds.

    Parameters
    ----------
    state : State
        Before the record.
    columns : Columns
        Of length 1: the record.

    Attributes
    ----------
    ts, dom, vcpu, op, flags, arg0, arg1 : int
    guest : bool
        Whether guests handle events by themselves.
    """

    def __init__(self, state: State, columns: Columns) -> None:
        super().__init__(state)
        self.guest = state.guest is not None
        self.ts, self.dom, self.vcpu, self.op, self.flags, self.arg0, self.arg1 = (
            int(column[0]) for column in columns
        )

    @property
    def target(self) -> int:
        """The domain that arg0 names; DOMID_SELF is the caller."""
        named = self.arg0 & DOMID_MASK
        return self.dom if named == abi.DOMID_SELF else named

    @property
    def names_itself(self) -> bool:
        """Whether arg0 is DOMID_SELF."""
        return self.arg0 & DOMID_MASK == abi.DOMID_SELF

    def vcpu_field(self, field: str) -> int:
        """Return a field of the record's vcpu."""
        return self.of_vcpu(self.dom, self.vcpu, field)

    @property
    def own(self) -> Port:
        """The caller's port that arg0 names, which has to be valid."""
        return self.port(self.dom, self.arg0)


def named(domid: int) -> str:
    """Say a domain id of an argument as it stands there."""
    low = domid & DOMID_MASK
    text = NAMED.get(low, str(low))
    return text if low == domid else f"{domid:#x} ({text})"
