"""The 2-level ABI: a bitmap of pending ports, one of masked ports, and a selector per vcpu.

The bitmaps are the domain's and the selectors the vcpus', since they outlive the use of this ABI.
Xen's side of it is event_2l.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.reference.interface import Effect

if TYPE_CHECKING:
    from tests.reference.domain import Domain


class TwoLevel:
    """How a domain's events are presented. Any port below the limit has its two bits."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.limit = domain.config.word_bits * domain.config.word_bits

    def has_bits(self, port: int) -> bool:
        """Tell whether the guest has a place for this port's events."""
        return port < self.limit

    def is_pending(self, port: int) -> bool:
        return port in self.domain.pending

    def is_masked(self, port: int) -> bool:
        return port in self.domain.mask or not self.has_bits(port)

    def is_busy(self, port: int) -> bool:
        """Tell whether a free port has still to be consumed: never, here."""
        return False

    def set_mask(self, port: int) -> None:
        self.domain.mask.add(port)

    def clear_pending(self, port: int) -> None:
        self.domain.pending.discard(port)

    def pending_ports(self) -> set[int]:
        """List the pending ports."""
        return set(self.domain.pending)

    def set_pending(self, port: int, vcpu: int) -> Effect:
        """Notify a port on a vcpu."""
        domain = self.domain
        if port in domain.pending:
            # Whoever set the bit has told the guest already, pollers included.
            return Effect.COALESCED
        domain.pending.add(port)
        effect = Effect.SET
        if port in domain.mask:
            effect |= Effect.MASKED
        else:
            effect |= self.select(port, vcpu)
        return effect | domain.wake_pollers(port)

    def select(self, port: int, vcpu: int) -> Effect:
        """Point a vcpu to the word of a port, and kick it if it knew of no event at all."""
        v = self.domain.vcpus[vcpu]
        word = port // self.domain.config.word_bits
        if word in v.pending_sel:
            return Effect.NONE
        v.pending_sel.add(word)
        return Effect.SELECTED | self.domain.mark(vcpu)

    def unmask(self, port: int, vcpu: int) -> Effect:
        """Clear a mask bit, and tell the vcpu if an event has been waiting behind it."""
        if not self.has_bits(port) or port not in self.domain.mask:
            return Effect.NONE
        self.domain.mask.discard(port)
        return self.select(port, vcpu) if port in self.domain.pending else Effect.NONE

    def init_port(self, port: int) -> None:
        """Prepare for a new channel: nothing to do."""

    def active(self, port: int, vcpu: int) -> bool:
        """Tell whether a handler on this vcpu takes this port's event."""
        domain = self.domain
        if port not in domain.pending or port in domain.mask:
            return False
        return port < len(domain.channels) and domain.channels[port].notify_vcpu == vcpu

    def upcall(self, vcpu: int) -> Iterator[int]:
        """Go through a vcpu's events. Whoever gets one clears it before asking for the next."""
        v = self.domain.vcpus[vcpu]
        words = sorted(v.pending_sel)
        v.pending_sel.clear()
        for word in words:
            first = word * self.domain.config.word_bits
            for port in range(first, first + self.domain.config.word_bits):
                if self.active(port, vcpu):
                    yield port
