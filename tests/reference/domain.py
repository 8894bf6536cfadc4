"""A domain, its ports and its vcpus: the bookkeeping that involves no other domain.

What the guest sees of its events differs by ABI and is in ``two_level`` and ``fifo``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.reference.fifo import Fifo
from tests.reference.interface import DomainConfig, Effect, Errno, State, check
from tests.reference.profiles import XEN_4_0, Profile
from tests.reference.two_level import TwoLevel


@dataclass
class Channel:
    """One port, as Xen sees it: pending and mask live in the guest's memory instead."""

    state: State = State.FREE
    notify_vcpu: int = 0
    consumer_is_xen: bool = False
    remote_dom: int = 0  # UNBOUND, INTERDOMAIN
    remote_port: int = 0  # INTERDOMAIN
    irq: int = 0  # VIRQ, PIRQ
    # These outlive what the port is used for.
    priority: int = 0
    saved_pending: bool = False
    last_queue: tuple[int, int] = (0, 0)  # vcpu and priority of the FIFO queue it was last on


@dataclass
class Vcpu:
    """One virtual processor: its part of shared memory, then what Xen knows of it."""

    upcall_pending: bool = False
    upcall_mask: bool = False
    pending_sel: set[int] = field(default_factory=set)  # numbers of the words to look at
    blocked: bool = False
    poll_port: int = 0
    virq_to_port: dict[int, int] = field(default_factory=dict)


class Domain:
    """A domain and the bookkeeping that involves no other domain.

    ``pending`` and ``mask`` are the bitmaps of the 2-level ABI, which keep what is in them while
    the domain uses the FIFO ABI.
    """

    def __init__(
        self, domid: int, config: DomainConfig, alive: bool, profile: Profile = XEN_4_0
    ) -> None:
        self.domid = domid
        self.config = config
        self.alive = alive
        self.profile = profile
        self.channels: list[Channel] = []  # grows by whole buckets: an index in it is a valid port
        self.pending: set[int] = set()
        self.mask: set[int] = set()
        self.vcpus = [Vcpu() for _ in range(config.vcpus)]
        self.poll_mask: set[int] = set()
        self.pirq_to_port: dict[int, int] = {}
        self.abi: TwoLevel | Fifo = TwoLevel(self)
        if alive:
            # Port 0 is never given out, so that 0 can mean "no port".
            self.allocate_bucket()
            self.channels[0].state = State.RESERVED

    @property
    def fifo(self) -> Fifo | None:
        """The FIFO ABI's queues and event words, where it is in use."""
        return self.abi if isinstance(self.abi, Fifo) else None

    def switch_abi(self, abi: TwoLevel | Fifo) -> None:
        """Let the guest see its events in another way from now on."""
        self.abi = abi

    # Ports

    def allocate_bucket(self) -> None:
        """Make the next ports valid; they stay so until the domain is destroyed."""
        self.channels.extend(Channel() for _ in range(self.profile.ports_per_bucket))

    def get_free_port(self) -> int:
        """Find the port the next allocation takes, without taking it."""
        for port in self._allocatable():
            if port >= len(self.channels):
                self.allocate_bucket()
            if self.channels[port].state == State.FREE and not self.abi.is_busy(port):
                return port
        check(False, Errno.ENOSPC)
        raise AssertionError

    def _allocatable(self) -> Iterator[int]:
        limit = self.abi.limit
        if self.profile.looks_at_max_port:
            limit = min(limit, self.config.max_port + 1)
        return iter(range(limit))

    def occupy(
        self,
        port: int,
        state: State,
        *,
        notify_vcpu: int = 0,
        remote_dom: int = 0,
        remote_port: int = 0,
        irq: int = 0,
    ) -> Channel:
        """Begin to use a free port."""
        channel = self.channels[port]
        channel.state = state
        channel.notify_vcpu = notify_vcpu
        channel.remote_dom = remote_dom
        channel.remote_port = remote_port
        channel.irq = irq
        return channel

    def vacate(self, port: int) -> None:
        """Make a port FREE. Its mask bit, and what the vcpus were told, stay."""
        channel = self.channels[port]
        if not self.profile.usable_only or self.usable(port):
            self.abi.clear_pending(port)
        channel.consumer_is_xen = False
        channel.state = State.FREE
        channel.notify_vcpu = channel.remote_dom = channel.remote_port = channel.irq = 0

    def channel(self, port: int) -> Channel:
        """Look a valid port up."""
        check(port < len(self.channels), Errno.EINVAL)
        return self.channels[port]

    def usable(self, port: int) -> bool:
        """Tell whether a port leads to the guest itself."""
        if port >= len(self.channels):
            return False
        channel = self.channels[port]
        return channel.state > State.RESERVED and not channel.consumer_is_xen

    def check_vcpu(self, vcpu: int) -> None:
        """Refuse a vcpu that the domain does not have."""
        check(vcpu < len(self.vcpus), Errno.ENOENT)

    # Events

    def notify(self, port: int, vcpu: int) -> Effect:
        """Notify a port on a vcpu, unless Xen passes over ports like this one."""
        if self.profile.usable_only and not self.usable(port):
            return Effect.NONE
        return self.set_pending(port, vcpu)

    def set_pending(self, port: int, vcpu: int) -> Effect:
        """Notify a port on a vcpu: the one way in which a new event reaches a guest."""
        return self.abi.set_pending(port, vcpu)

    def mark(self, vcpu: int) -> Effect:
        """Tell a vcpu that there are events for it, if it knew of none at all."""
        v = self.vcpus[vcpu]
        if v.upcall_pending:
            return Effect.NONE
        v.upcall_pending = True
        return Effect.KICK | self.unblock(vcpu)

    # Polls

    def wake_pollers(self, port: int) -> Effect:
        """End the polls that wait for this port, and those on port 0, which match any."""
        effect = Effect.NONE
        for vcpu in sorted(self.poll_mask):
            if self.vcpus[vcpu].poll_port in (0, port):
                self.poll_mask.discard(vcpu)
                self.vcpus[vcpu].poll_port = 0
                effect |= self.unblock(vcpu)
        return effect

    def unblock(self, vcpu: int) -> Effect:
        """Let a vcpu run. A poll on port 0 looks like no poll here, so its poll_mask bit stays.

        Such a poll exists in xen-4.0 only: later, port 0 is not usable.
        """
        v = self.vcpus[vcpu]
        if v.poll_port != 0:
            self.poll_mask.discard(vcpu)
            v.poll_port = 0
        if not v.blocked:
            return Effect.NONE
        v.blocked = False
        return Effect.POLL_WAKE
