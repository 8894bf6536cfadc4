"""TraceBuilder: traces record by record, for tests and examples."""

from __future__ import annotations

import numpy as np

from evtsim import abi
from evtsim.abi import Op
from evtsim.dtypes import RECORD_DTYPE
from evtsim.errors import TraceError
from evtsim.host import Host
from evtsim.trace.columns import COLUMN_DTYPES, FIELDS, expectation
from evtsim.trace.trace import Trace

SELF = abi.DOMID_SELF


class TraceBuilder:
    """Builds a trace by one method an operation.

    Every method takes the record's own fields as keywords: ``dom``, the caller (or the domain
    acted on); ``vcpu``, the calling vcpu, 0 if not given; ``ts`` in ns, the last record's if not
    given; ``flags``, of :class:`evtsim.abi.Fault`. An operation that itself names a domain takes
    it as ``target_dom`` (the caller if not given), one that names a vcpu as ``target_vcpu``
    (the calling one if not given). Each returns the number of its record.

    Parameters
    ----------
    host : Host, optional
        For the trace.

    Examples
    --------
    >>> b = TraceBuilder(Host.uniform(2))
    >>> b.alloc_unbound(dom=1, remote_dom=0, ts=1000)
    0
    >>> b.bind_interdomain(dom=0, remote_dom=1, remote_port=1)
    1
    >>> b.send(dom=0, port=1, ts=2000)
    2
    >>> len(b.trace())
    3
    """

    def __init__(self, host: Host | None = None) -> None:
        self.host = host
        self._rows: list[tuple[int, ...]] = []

    def record(
        self,
        op: int,
        *,
        dom: int,
        vcpu: int = 0,
        ts: int | None = None,
        flags: int = 0,
        arg0: int = 0,
        arg1: int = 0,
    ) -> int:
        """Add a record of any operation, by number; the number of the record.

        Raises
        ------
        TraceError
            A value does not fit its field, or ts is before the last record's.
        """
        last = self._rows[-1][0] if self._rows else 0
        row = (last if ts is None else ts, dom, vcpu, op, flags, arg0, arg1)
        for name, value in zip(FIELDS, row, strict=True):
            info = np.iinfo(COLUMN_DTYPES[name])
            if not isinstance(value, (int, np.integer)) or not info.min <= value <= info.max:
                raise self._error("value does not fit", name, value, expectation(name))
        if row[0] < last:
            raise self._error("time runs backwards", "ts", row[0], f"at least {last}")
        self._rows.append(row)
        return len(self._rows) - 1

    def trace(self) -> Trace:
        """Return what was built so far."""
        meta = {"made_by": "TraceBuilder"}
        return Trace.from_records(np.array(self._rows, RECORD_DTYPE), self.host, meta=meta)

    def __len__(self) -> int:
        return len(self._rows)

    def _error(self, problem: str, field: str, value: object, expected: str) -> TraceError:
        return TraceError(
            problem, record=len(self._rows), field=field, value=value, expected=expected
        )

    # Hypercalls ----------------------------------------------------------------------------------

    def bind_interdomain(self, *, remote_dom: int, remote_port: int, **record: int) -> int:
        """Bind a new port to another domain's unbound one."""
        return self.record(Op.BIND_INTERDOMAIN, arg0=remote_dom, arg1=remote_port, **record)

    def bind_virq(self, *, virq: int, target_vcpu: int | None = None, **record: int) -> int:
        """Bind a new port to a virtual interrupt."""
        return self.record(Op.BIND_VIRQ, arg0=virq, arg1=_vcpu(target_vcpu, record), **record)

    def bind_pirq(self, *, pirq: int, pirq_flags: int = 0, **record: int) -> int:
        """Bind a new port to a physical interrupt."""
        return self.record(Op.BIND_PIRQ, arg0=pirq, arg1=pirq_flags, **record)

    def close(self, *, port: int, **record: int) -> int:
        """Close a port."""
        return self.record(Op.CLOSE, arg0=port, **record)

    def send(self, *, port: int, **record: int) -> int:
        """Notify the other end of a port."""
        return self.record(Op.SEND, arg0=port, **record)

    def status(self, *, port: int, target_dom: int = SELF, **record: int) -> int:
        """Ask what a port is."""
        return self.record(Op.STATUS, arg0=target_dom, arg1=port, **record)

    def alloc_unbound(self, *, remote_dom: int, target_dom: int = SELF, **record: int) -> int:
        """Allocate a port that remote_dom may bind to."""
        return self.record(Op.ALLOC_UNBOUND, arg0=target_dom, arg1=remote_dom, **record)

    def bind_ipi(self, *, target_vcpu: int | None = None, **record: int) -> int:
        """Allocate a port that notifies a vcpu of the caller's."""
        return self.record(Op.BIND_IPI, arg0=_vcpu(target_vcpu, record), **record)

    def bind_vcpu(self, *, port: int, target_vcpu: int | None = None, **record: int) -> int:
        """Let a port notify another vcpu."""
        return self.record(Op.BIND_VCPU, arg0=port, arg1=_vcpu(target_vcpu, record), **record)

    def unmask(self, *, port: int, **record: int) -> int:
        """Unmask a port, with the notification that waited behind the mask."""
        return self.record(Op.UNMASK, arg0=port, **record)

    def reset(self, *, target_dom: int = SELF, **record: int) -> int:
        """Close all ports of a domain."""
        return self.record(Op.RESET, arg0=target_dom, **record)

    def init_control(
        self, *, target_vcpu: int | None = None, offset: int = 0, **record: int
    ) -> int:
        """Give a vcpu a control block; a domain's first one switches it to the FIFO ABI."""
        vcpu = _vcpu(target_vcpu, record)
        return self.record(Op.INIT_CONTROL, arg0=vcpu, arg1=offset, **record)

    def expand_array(self, **record: int) -> int:
        """Add a page to the event array."""
        return self.record(Op.EXPAND_ARRAY, **record)

    def set_priority(self, *, port: int, priority: int, **record: int) -> int:
        """Let a port use the queue of another priority."""
        return self.record(Op.SET_PRIORITY, arg0=port, arg1=priority, **record)

    def reset_cont(self, *, target_dom: int = SELF, **record: int) -> int:
        """Go on with a reset, which only Xen itself may ask for."""
        return self.record(Op.RESET_CONT, arg0=target_dom, **record)

    # What happens around them --------------------------------------------------------------------

    def raise_virq(self, *, virq: int, target_vcpu: int | None = None, **record: int) -> int:
        """Let Xen raise a virtual interrupt in ``dom``."""
        return self.record(Op.RAISE_VIRQ, arg0=virq, arg1=_vcpu(target_vcpu, record), **record)

    def raise_pirq(self, *, pirq: int, **record: int) -> int:
        """Let a physical interrupt for ``dom`` arrive."""
        return self.record(Op.RAISE_PIRQ, arg0=pirq, **record)

    def mask(self, *, port: int, **record: int) -> int:
        """Let the guest set a mask bit."""
        return self.record(Op.MASK, arg0=port, **record)

    def clear_pending(self, *, port: int, **record: int) -> int:
        """Let the guest clear a pending bit."""
        return self.record(Op.CLEAR_PENDING, arg0=port, **record)

    def upcall(self, **record: int) -> int:
        """Let the guest's event handler run on (dom, vcpu)."""
        return self.record(Op.UPCALL, **record)

    def poll(self, *, port: int, **record: int) -> int:
        """Let (dom, vcpu) wait for a port."""
        return self.record(Op.POLL, arg0=port, **record)

    def set_upcall_mask(self, *, value: int, **record: int) -> int:
        """Let the guest write its vcpu's evtchn_upcall_mask."""
        return self.record(Op.SET_UPCALL_MASK, arg0=value, **record)

    def alloc_xen(self, *, remote_domid: int, **record: int) -> int:
        """Let Xen allocate a channel of its own, on the vcpu of the record."""
        return self.record(Op.ALLOC_XEN, arg0=remote_domid, **record)

    def free_xen(self, *, port: int, **record: int) -> int:
        """Let Xen free such a channel."""
        return self.record(Op.FREE_XEN, arg0=port, **record)

    def notify_xen(self, *, port: int, **record: int) -> int:
        """Let Xen notify the peer of such a channel."""
        return self.record(Op.NOTIFY_XEN, arg0=port, **record)

    def destroy_domain(self, **record: int) -> int:
        """Destroy ``dom``."""
        return self.record(Op.DESTROY_DOMAIN, **record)

    def create_domain(self, **record: int) -> int:
        """Create ``dom`` anew."""
        return self.record(Op.CREATE_DOMAIN, **record)


def _vcpu(target: int | None, record: dict[str, int]) -> int:
    return record.get("vcpu", 0) if target is None else target
