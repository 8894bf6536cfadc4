"""Short stories: sequences of records that chance would rarely tell, for hypothesis to mix in.

A story is a generator. It yields what a domain does next, as (op, arg0, arg1) of vcpu 0, and is
sent the outcome. What other records have made of the domain before may give it another end.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from tests.reference import DOMID_SELF, Op, Outcome

Step = tuple[int, int, int]
Story = Generator[Step, Outcome, None]

WORDS_PER_PAGE = 1024


def tell(story: Story, do: Callable[[int, int, int], Outcome]) -> None:
    """Do what a story says, step by step."""
    try:
        step = next(story)
        while True:
            step = story.send(do(*step))
    except StopIteration:
        pass


def to_fifo(choice: int) -> Story:
    """Get to the FIFO ABI on one vcpu or two, with or without an event array."""
    yield Op.INIT_CONTROL, 0, 0
    if choice % 4:
        yield Op.EXPAND_ARRAY, 0, 0
    if choice % 2:
        yield Op.INIT_CONTROL, 1, 4024


def queues(choice: int) -> Story:
    """Fill queues of several priorities, and empty them."""
    ports = []
    for priority in (7, choice % 16, 15, choice % 3):
        port = (yield Op.BIND_IPI, 0, 0).port
        ports.append(port)
        yield Op.SET_PRIORITY, port, priority
    for port in ports * 2:
        yield Op.SEND, port, 0
    if choice % 2:
        yield Op.UPCALL, 0, 0


def consumed_while_masked(choice: int) -> Story:
    """Have an event taken off its queue undelivered, and linked again on another one."""
    first = (yield Op.BIND_IPI, 0, 0).port
    second = (yield Op.BIND_IPI, 0, 0).port
    for port in (first, second)[: 1 + choice % 2]:
        yield Op.SEND, port, 0
    yield Op.MASK, second if choice % 2 else first, 0
    yield Op.UPCALL, 0, 0
    yield Op.SET_PRIORITY, second if choice % 2 else first, choice % 16
    yield Op.UNMASK, second if choice % 2 else first, 0
    yield Op.SEND, first, 0
    yield Op.SEND, second, 0


def moved_while_linked(choice: int) -> Story:
    """Change the priority and the vcpu of a port that is on a queue."""
    port = (yield Op.ALLOC_UNBOUND, DOMID_SELF, DOMID_SELF).port
    peer = (yield Op.BIND_INTERDOMAIN, DOMID_SELF, port).port
    yield Op.SEND, peer, 0
    yield Op.SET_PRIORITY, port, choice % 8
    yield Op.BIND_VCPU, port, choice % 2
    yield Op.SEND, peer, 0
    if choice % 3:
        yield Op.UPCALL, 0, 0
        yield Op.SEND, peer, 0


def busy(choice: int) -> Story:
    """Close a port that is on a queue: it is not free before the guest has consumed it."""
    port = (yield Op.BIND_IPI, 0, 0).port
    yield Op.SEND, port, 0
    yield Op.CLOSE, port, 0
    yield Op.BIND_IPI, choice % 2, 0
    if choice % 3:
        yield Op.UPCALL, 0, 0
    yield Op.BIND_IPI, 0, 0


def two_level_bit_left_over(choice: int) -> Story:
    """Carry a 2-level bit over the FIFO ABI and on to another channel, which Xen may free."""
    port = (yield Op.BIND_IPI, 0, 0).port
    if choice % 2:
        yield Op.MASK, port, 0
    yield Op.SEND, port, 0
    yield from to_fifo(choice)
    if choice % 3 == 0:
        yield Op.SEND, port, 0
    yield Op.RESET, DOMID_SELF, 0
    if choice % 5 < 3:
        port = (yield Op.ALLOC_XEN, choice % 4, 0).port
        yield Op.FREE_XEN, port, 0
    port = (yield Op.BIND_IPI, 0, 0).port
    yield Op.SEND, port, 0
    yield Op.UNMASK, port, 0
    if choice % 2:
        yield Op.UPCALL, 0, 0


def saved(choice: int) -> Story:
    """Raise what has no event word yet; it comes when the array does, if only to a free port."""
    port = (yield Op.BIND_IPI, 0, 0).port
    if choice % 2:
        yield Op.SEND, port, 0
    yield Op.INIT_CONTROL, 0, 8
    yield Op.SEND, port, 0
    if choice % 3:
        yield Op.CLOSE, port, 0
    if choice % 3 == 2:
        port = (yield Op.ALLOC_XEN, choice % 4, 0).port
    yield Op.EXPAND_ARRAY, 0, 0
    if choice % 5:
        yield Op.MASK, port, 0
        yield Op.UPCALL, 0, 0
        if choice % 3 == 1:
            port = (yield Op.ALLOC_XEN, choice % 4, 0).port
        yield Op.FREE_XEN, port, 0


def no_control_block(choice: int) -> Story:
    """Notify a vcpu that has no control block, then give it one."""
    port = (yield Op.BIND_IPI, 1, 0).port
    yield Op.SEND, port, 0
    if choice % 2:
        yield Op.INIT_CONTROL, 1, 16
        yield Op.SEND, port, 0


def behind_the_mask(choice: int) -> Story:
    """Raise what is masked, and close it, unmask it or leave it so."""
    port = (yield Op.BIND_IPI, choice % 2, 0).port
    yield Op.MASK, port, 0
    yield Op.SEND, port, 0
    yield Op.SEND, port, 0
    if choice % 3 == 0:
        yield Op.CLOSE, port, 0
    if choice % 3 == 1:
        yield Op.UNMASK, port, 0


def xen_channel(choice: int) -> Story:
    """Talk to Xen, and hear of it."""
    xen = (yield Op.ALLOC_XEN, (choice % 4), 0).port
    port = (yield Op.BIND_INTERDOMAIN, DOMID_SELF, xen).port
    yield Op.SEND, port, 0
    yield Op.NOTIFY_XEN, xen, 0
    yield Op.SET_PRIORITY, xen if choice % 2 else port, 3
    if choice % 3:
        yield Op.FREE_XEN if choice % 5 else Op.CLOSE, xen if choice % 5 else port, 0


def many_ports(choice: int) -> Story:
    """Go beyond the first page of the event array, and for a 32-bit domain the 2-level limit."""
    yield Op.INIT_CONTROL, 0, 0
    yield Op.EXPAND_ARRAY, 0, 0
    port = 0
    while port < WORDS_PER_PAGE:
        outcome = yield Op.ALLOC_XEN if choice % 2 else Op.BIND_IPI, 0, 0
        if outcome.rc:
            return
        port = outcome.port
    port = (yield Op.BIND_IPI, 0, 0).port
    yield Op.SEND, port, 0
    if choice % 3:
        yield Op.EXPAND_ARRAY, 0, 0
    if choice % 5 == 0:
        yield Op.RESET, DOMID_SELF, 0
    if choice % 2:
        yield Op.FREE_XEN, port - 1, 0


SHORT_STORIES: tuple[Callable[[int], Story], ...] = (
    to_fifo,
    queues,
    consumed_while_masked,
    moved_while_linked,
    busy,
    two_level_bit_left_over,
    saved,
    no_control_block,
    behind_the_mask,
    xen_channel,
)
