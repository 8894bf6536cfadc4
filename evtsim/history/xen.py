"""Which functions of Xen, or of the guest, decide and do what: names, and the files they are in.

By profile where a name or a file has changed between January 2010 and mid 2026.
"""

from __future__ import annotations

from typing import NamedTuple

from evtsim.abi import Op

EVENT_CHANNEL = "common/event_channel.c"
EVENT_FIFO = "common/event_fifo.c"


class Function(NamedTuple):
    """A function by profile, with its file."""

    old: str
    new: str

    def of(self, modern: bool) -> str:
        """Return the name and file that the profile has."""
        return self.new if modern else self.old


def _same(name: str, file: str = EVENT_CHANNEL) -> Function:
    text = f"{name}, {file}"
    return Function(text, text)


NOBODY = Function(*2 * ("the simulator itself: Xen has no such caller",))
DISPATCH = _same("do_event_channel_op")
TARGET = Function(
    "rcu_lock_target_domain_by_id, common/domain.c", "rcu_lock_domain_by_any_id, common/domain.c"
)
REMOTE = Function(
    "rcu_lock_domain_by_id, common/domain.c", "rcu_lock_domain_by_any_id, common/domain.c"
)
MAY_ACT = _same("xsm_evtchn_unbound, xsm_evtchn_status or xsm_evtchn_reset", "include/xsm/dummy.h")
FREE_PORT = _same("get_free_port")
CLOSE = Function(f"__evtchn_close, {EVENT_CHANNEL}", f"evtchn_close, {EVENT_CHANNEL}")
POLL = Function("do_poll, common/schedule.c", "do_poll, common/sched/core.c")
FIFO_INIT = _same("evtchn_fifo_init_control", EVENT_FIFO)
FIFO_EXPAND = _same("evtchn_fifo_expand_array", EVENT_FIFO)
FIFO_ADD_PAGE = _same("add_page_to_event_array", EVENT_FIFO)
SET_PRIORITY = _same("evtchn_set_priority")
PORT_SET_PRIORITY = _same("evtchn_port_set_priority", "include/xen/event.h")
FIFO_SET_PRIORITY = _same("evtchn_fifo_set_priority", EVENT_FIFO)

OWN: dict[Op, Function] = {
    Op.BIND_INTERDOMAIN: _same("evtchn_bind_interdomain"),
    Op.BIND_VIRQ: _same("evtchn_bind_virq"),
    Op.BIND_PIRQ: _same("evtchn_bind_pirq"),
    Op.CLOSE: CLOSE,
    Op.SEND: _same("evtchn_send"),
    Op.STATUS: _same("evtchn_status"),
    Op.ALLOC_UNBOUND: _same("evtchn_alloc_unbound"),
    Op.BIND_IPI: _same("evtchn_bind_ipi"),
    Op.BIND_VCPU: _same("evtchn_bind_vcpu"),
    Op.UNMASK: _same("evtchn_unmask"),
    Op.RESET: _same("evtchn_reset"),
    Op.INIT_CONTROL: FIFO_INIT,
    Op.EXPAND_ARRAY: FIFO_EXPAND,
    Op.SET_PRIORITY: SET_PRIORITY,
    Op.RESET_CONT: _same("evtchn_reset"),
    Op.RAISE_VIRQ: _same("send_guest_vcpu_virq or send_guest_global_virq"),
    Op.RAISE_PIRQ: _same("send_guest_pirq"),
    Op.MASK: _same("the guest's own write", "as Linux's evtchn_2l_mask or evtchn_fifo_mask"),
    Op.CLEAR_PENDING: _same(
        "the guest's own write", "as Linux's evtchn_2l_clear_pending or evtchn_fifo_clear_pending"
    ),
    Op.UPCALL: _same("the guest's handler", "as Linux's __xen_evtchn_do_upcall"),
    Op.POLL: POLL,
    Op.SET_UPCALL_MASK: _same("the guest's own write", "of evtchn_upcall_mask"),
    Op.ALLOC_XEN: _same("alloc_unbound_xen_event_channel"),
    Op.FREE_XEN: _same("free_xen_event_channel"),
    Op.NOTIFY_XEN: _same("notify_via_xen_event_channel"),
    Op.DESTROY_DOMAIN: _same("evtchn_destroy"),
    Op.CREATE_DOMAIN: _same("evtchn_init"),
}
"""The function that carries an operation out."""
