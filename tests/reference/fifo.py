"""The FIFO ABI: an event word per port, and per vcpu sixteen queues of them by priority.

Xen's side of it is event_fifo.c, the guest's is Linux's events_fifo.c. A queue is a list through
the LINKs of its ports' words: the guest takes from the head, Xen appends at the tail.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.reference.interface import Effect

if TYPE_CHECKING:
    from tests.reference.domain import Domain

WORDS_PER_PAGE = 1024
MAX_PAGES = 128
PRIORITIES = 16
LOWEST_PRIORITY = PRIORITIES - 1
DEFAULT_PRIORITY = 7
PAGE_BYTES = 4096
CONTROL_BLOCK_BYTES = 72


@dataclass
class EventWord:
    """One port's word in the event array, which guest and Xen share."""

    pending: bool = False
    masked: bool = False
    linked: bool = False
    link: int = 0

    def as_int(self) -> int:
        """Give the word's bits. BUSY is held only for the time of an update."""
        return self.pending << 31 | self.masked << 30 | self.linked << 29 | self.link


@dataclass
class ControlBlock:
    """What a vcpu and Xen share, then the guest's own notes on the queues it is emptying."""

    ready: set[int] = field(default_factory=set)
    head: list[int] = field(default_factory=lambda: [0] * PRIORITIES)
    local_ready: set[int] = field(default_factory=set)  # empty unless a handler is running
    local_head: list[int] = field(default_factory=lambda: [0] * PRIORITIES)

    def take_ready(self) -> set[int]:
        """Read and clear the ready bits, as Linux's xchg does."""
        ready = set(self.ready)
        self.ready.clear()
        return ready


class Fifo:
    """A domain's event array, control blocks and tails. All of it goes when the ABI does."""

    limit = WORDS_PER_PAGE * MAX_PAGES

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.num_evtchns = 0
        self.words: dict[int, EventWord] = {}  # made when first looked at
        self.blocks: dict[int, ControlBlock] = {}  # of the vcpus that have one
        self.tails: dict[tuple[int, int], int] = {}  # by vcpu and priority; none is 0

    def word(self, port: int) -> EventWord | None:
        """Find a port's word, if the array reaches that far."""
        if port >= self.num_evtchns:
            return None
        return self.words.setdefault(port, EventWord())

    def has_bits(self, port: int) -> bool:
        """Tell whether the guest has a place for this port's events."""
        return port < self.num_evtchns

    def is_pending(self, port: int) -> bool:
        word = self.word(port)
        return word is not None and word.pending

    def is_masked(self, port: int) -> bool:
        word = self.word(port)
        return word is None or word.masked

    def is_busy(self, port: int) -> bool:
        """Tell whether a port is on a queue, so that nobody else may have it yet."""
        word = self.word(port)
        return word is not None and word.linked

    def set_mask(self, port: int) -> None:
        if word := self.word(port):
            word.masked = True

    def clear_pending(self, port: int) -> None:
        if word := self.word(port):
            word.pending = False

    def pending_ports(self) -> set[int]:
        """List the pending ports."""
        return {port for port, word in self.words.items() if word.pending}

    # Xen's side

    def add_page(self) -> None:
        """Make the event array reach further."""
        self.num_evtchns += WORDS_PER_PAGE

    def set_pending(self, port: int, vcpu: int) -> Effect:
        """Notify a port on a vcpu."""
        word = self.word(port)
        if word is None:
            self.domain.channels[port].saved_pending = True
            return Effect.SAVED
        if vcpu not in self.blocks:
            return Effect.NO_CONTROL_BLOCK
        was_pending, word.pending = word.pending, True
        effect = Effect.COALESCED if was_pending else Effect.SET
        if word.masked and not was_pending:
            effect |= Effect.MASKED
        # Also a port that has been pending: it may have been consumed while it was masked.
        if not word.masked and not word.linked:
            word.linked = True
            effect |= Effect.SELECTED | self._append(port, vcpu)
        if not was_pending:
            effect |= self.domain.wake_pollers(port)
        return effect

    def _append(self, port: int, vcpu: int) -> Effect:
        """Put a port at the end of the queue that its priority asks for."""
        channel = self.domain.channels[port]
        queue = (vcpu, channel.priority)
        # A port that was a queue's last one and is linked again means that that queue is empty.
        # It must not be taken for its end any more, or it would lead into this queue.
        if self.tails.get(channel.last_queue) == port:
            self.tails[channel.last_queue] = 0
        channel.last_queue = queue

        tail = self.word(self.tails.get(queue, 0)) if self.tails.get(queue) else None
        self.tails[queue] = port
        if tail is not None and tail.linked:
            tail.link = port
            return Effect.NONE
        block = self.blocks[vcpu]
        block.head[channel.priority] = port
        if channel.priority in block.ready:
            return Effect.NONE
        block.ready.add(channel.priority)
        return self.domain.mark(vcpu)

    def unmask(self, port: int, vcpu: int) -> Effect:
        """Clear a mask bit, and link the port if an event has been waiting behind it."""
        word = self.word(port)
        if word is None:
            return Effect.NONE
        word.masked = False
        # Not the domain's set_pending: this is no new event.
        return self.set_pending(port, vcpu) if word.pending else Effect.NONE

    def init_port(self, port: int) -> None:
        """Prepare for a new channel."""
        self.domain.channels[port].priority = DEFAULT_PRIORITY

    # The guest's side

    def consume(self, vcpu: int, priority: int) -> tuple[int, bool]:
        """Take the first port off a queue; tell which it is, and whether more are behind it."""
        block = self.blocks[vcpu]
        port = block.local_head[priority] or block.head[priority]
        word = self.word(port)
        assert word is not None
        block.local_head[priority] = word.link
        word.linked, word.link = False, 0
        return port, block.local_head[priority] != 0

    def active(self, port: int) -> bool:
        """Tell whether a handler takes the event of a port it has just consumed."""
        return self.is_pending(port) and not self.is_masked(port)

    def upcall(self, vcpu: int) -> Iterator[int]:
        """Go through a vcpu's events. Whoever gets one clears it before asking for the next."""
        block = self.blocks.get(vcpu)
        if block is None:
            return
        ready = block.local_ready
        ready |= block.take_ready()
        while ready:
            priority = min(ready)
            port, more = self.consume(vcpu, priority)
            if not more:
                ready.discard(priority)
            if self.active(port):
                yield port
            # Something more urgent may have come in.
            ready |= block.take_ready()
