"""What can be looked at: the state as tables, as recordings hold it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.reference.domain import Domain
from tests.reference.fifo import PRIORITIES
from tests.reference.profiles import Profile


class Tables:
    """The tables of a host's living domains, each a list of rows."""

    profile: Profile
    domains: list[Domain]

    def _alive(self) -> Iterator[Domain]:
        return (domain for domain in self.domains if domain.alive)

    def ports(self) -> list[dict[str, int]]:
        """List every valid port. Pending and mask are those of the domain's present ABI."""
        return [
            {
                "dom": domain.domid,
                "port": port,
                "state": int(channel.state),
                "notify_vcpu": channel.notify_vcpu,
                "xen": int(channel.consumer_is_xen),
                "remote_dom": channel.remote_dom,
                "remote_port": channel.remote_port,
                "irq": channel.irq,
                "pending": int(domain.abi.is_pending(port)),
                "mask": int(domain.abi.is_masked(port)),
                **self._only_fifo_profiles(
                    priority=channel.priority, saved_pending=int(channel.saved_pending)
                ),
            }
            for domain in self._alive()
            for port, channel in enumerate(domain.channels)
        ]

    def _only_fifo_profiles(self, **columns: int) -> dict[str, int]:
        return columns if self.profile.has_fifo else {}

    def vcpus(self) -> list[dict[str, int]]:
        """List every vcpu."""
        return [
            {
                "dom": domain.domid,
                "vcpu": vcpu,
                "upcall_pending": int(v.upcall_pending),
                "upcall_mask": int(v.upcall_mask),
                "polling": int(vcpu in domain.poll_mask),
                "blocked": int(v.blocked),
                "pending_sel": _as_bits(v.pending_sel),
                "poll_port": v.poll_port,
            }
            for domain in self._alive()
            for vcpu, v in enumerate(domain.vcpus)
        ]

    def virqs(self) -> list[dict[str, int]]:
        """List the bound VIRQs, each with the vcpu whose table holds it."""
        return [
            {"dom": domain.domid, "vcpu": vcpu, "irq": virq, "port": port}
            for domain in self._alive()
            for vcpu, v in enumerate(domain.vcpus)
            for virq, port in sorted(v.virq_to_port.items())
        ]

    def pirqs(self) -> list[dict[str, int]]:
        """List the bound PIRQs, whose table belongs to the domain: vcpu is always 0."""
        return [
            {"dom": domain.domid, "vcpu": 0, "irq": pirq, "port": port}
            for domain in self._alive()
            for pirq, port in sorted(domain.pirq_to_port.items())
        ]

    def abi(self) -> list[dict[str, int]]:
        """List which ABI each domain uses, and how many event words its array has."""
        return [
            {
                "dom": domain.domid,
                "fifo": int(domain.fifo is not None),
                "num_evtchns": domain.fifo.num_evtchns if domain.fifo else 0,
            }
            for domain in self._alive()
        ]

    def event_words(self) -> list[dict[str, int]]:
        """List the event words that are not zero."""
        return [
            {"dom": domain.domid, "port": port, "word": word.as_int()}
            for domain in self._alive()
            if domain.fifo
            for port, word in sorted(domain.fifo.words.items())
            if word.as_int()
        ]

    def fifo_queues(self) -> list[dict[str, int]]:
        """List the queues that have ever been in use, some of which may be empty now."""
        return [
            {"dom": domain.domid, "vcpu": vcpu, "priority": priority, **queue}
            for domain in self._alive()
            if domain.fifo
            for vcpu, block in sorted(domain.fifo.blocks.items())
            for priority in range(PRIORITIES)
            if any(
                (
                    queue := {
                        "ready": int(priority in block.ready),
                        "head": block.head[priority],
                        "tail": domain.fifo.tails.get((vcpu, priority), 0),
                        "local_head": block.local_head[priority],
                    }
                ).values()
            )
        ]

    def shared_info(self, dom: int) -> tuple[list[int], list[int]]:
        """Copy the pending and mask bitmaps, as 64-bit words whatever the domain's word size."""
        domain = self.domains[dom]
        pending, mask = _as_bits(domain.pending), _as_bits(domain.mask)
        first_bits = range(0, domain.config.word_bits**2, 64)
        return (
            [(pending >> bit) & (2**64 - 1) for bit in first_bits],
            [(mask >> bit) & (2**64 - 1) for bit in first_bits],
        )


def _as_bits(numbers: set[int]) -> int:
    return sum(1 << number for number in numbers)
