"""What a notification did, and why no more: a record's effects in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from evtsim.abi import Effect
from evtsim.history.moment import Moment, Port, View

Since = Callable[[int, int, str], str]
"""Says since when a port's "pending" or "mask" bit is what it is: " since record 7, 30 ns ago"."""


@dataclasses.dataclass(frozen=True)
class Notified:
    """A port that a record notified, or unmasked.

    Attributes
    ----------
    before : Moment
    after : View
    target : Port
        As it was when it was notified.
    effects : Effect
        Of the record.
    since : callable
    """

    before: Moment
    after: View
    target: Port
    effects: Effect
    since: Since

    def lines(self) -> Iterator[str]:
        """Yield what happened to the port, its vcpu and those who poll."""
        yield from self._bit()
        if Effect.SELECTED in self.effects:
            yield from self._selected()
        elif self.effects & (Effect.SET | Effect.MASKED) == Effect.SET:
            yield self._not_selected()
        if Effect.POLL_WAKE in self.effects:
            yield self._woken()

    @property
    def vcpu(self) -> int:
        """The vcpu that the port notifies."""
        return self.target.notify_vcpu

    @property
    def fifo(self) -> bool:
        """Whether the port's domain is under the FIFO ABI."""
        return self.before.fifo(self.target.dom)

    def _bit(self) -> Iterator[str]:
        port = self.target
        if Effect.SAVED in self.effects:
            yield (
                f"{port} has no event word yet: SAVED, and notified once the array has grown to it"
            )
        elif Effect.NO_CONTROL_BLOCK in self.effects:
            yield f"{port}'s vcpu {self.vcpu} has no control block: NO_CONTROL_BLOCK, it is lost"
        elif Effect.COALESCED in self.effects:
            since = self.since(port.dom, port.port, "pending")
            yield f"{port} was pending already{since}: COALESCED{self._why_untold()}"
        elif Effect.SET in self.effects:
            yield f"{port} is pending now: SET"
        if Effect.MASKED in self.effects:
            since = self.since(port.dom, port.port, "mask")
            yield f"its mask bit is set{since}: MASKED, and no vcpu is told"

    def _why_untold(self) -> str:
        """Say of a notification that coalesced why no vcpu is told, unless one is."""
        port = self.target
        if Effect.SELECTED in self.effects:
            return ""
        if self.after.port(port.dom, port.port).mask:
            return ", and no vcpu is told; it is masked besides"
        linked = ": it stands in a queue" if self.fifo else ""
        return f", and no vcpu is told{linked}"

    def _selected(self) -> Iterator[str]:
        dom, vcpu = self.target.dom, self.vcpu
        if self.fifo:
            priority = self.after.port_fifo(dom, self.target.port, "priority")
            yield f"it is linked in the queue of priority {priority} of vcpu {vcpu}: SELECTED"
        else:
            yield f"selector bit {self._selector} of vcpu {vcpu} became 1: SELECTED"
        if Effect.KICK in self.effects:
            masks = self.before.of_vcpu(dom, vcpu, "upcall_mask")
            rest = " (it masks upcalls, so it does not take it yet)" if masks else ""
            yield f"upcall_pending of vcpu {vcpu} became 1: KICK{rest}"
        else:
            yield f"vcpu {vcpu} is not kicked: {self._why_no_kick()}"

    def _why_no_kick(self) -> str:
        dom, vcpu, port = self.target.dom, self.vcpu, self.target.port
        if self.fifo:
            priority = self.after.port_fifo(dom, port, "priority")
            if int(self.after.queue(dom, vcpu, priority)["head"]) != port:
                return "the queue has a tail, behind which the port stands now"
            if self.before.ready(dom, vcpu) >> priority & 1:
                return f"the ready bit of priority {priority} is set already"
        return "its upcall_pending is 1 already"

    def _not_selected(self) -> str:
        if self.fifo:
            return "it is linked in a queue already, where its vcpu will find it"
        return (
            f"selector bit {self._selector} of vcpu {self.vcpu} is 1 already, for another port of "
            "its word or an earlier event: the vcpu was told then"
        )

    @property
    def _selector(self) -> int:
        return self.target.port >> self.before.domain(self.target.dom, "word_shift")

    def _woken(self) -> str:
        dom = self.target.dom
        polls = [
            f"vcpu {vcpu} (of port {self.before.of_vcpu(dom, vcpu, 'poll_port') or '0, any'})"
            for vcpu in sorted(self.before.blocked(dom) - self.after.blocked(dom))
        ]
        return f"these polls end: {', '.join(polls)}: POLL_WAKE"
