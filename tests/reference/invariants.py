"""What holds in every state of a reference host, before and after any record.

Called by tests. Each function raises AssertionError with the place where something is wrong.
"""

from __future__ import annotations

from tests.reference.domain import Domain
from tests.reference.fifo import PRIORITIES, WORDS_PER_PAGE, Fifo
from tests.reference.host import ReferenceHost
from tests.reference.interface import State


def check_invariants(host: ReferenceHost) -> None:
    """Check all living domains of a host."""
    for domain in host.domains:
        if domain.alive:
            check_ports(host, domain)
            check_tables(domain)
            check_polls(domain)
            check_selectors(domain)
            if domain.fifo:
                check_fifo(domain, domain.fifo)


def check_ports(host: ReferenceHost, domain: Domain) -> None:
    """Check that every port is what its state says, and both ends of a channel agree.

    In xen-4.0 a FREE port is never pending. In xen-4.23 it may be: its bit has been left by a
    2-level channel over a time under the FIFO ABI, by free_xen, or set by expand_array.
    """
    assert len(domain.channels) % domain.profile.ports_per_bucket == 0
    assert domain.channels[0].state == State.RESERVED
    for port, channel in enumerate(domain.channels):
        where = (domain.domid, port, channel)
        assert (channel.state == State.RESERVED) == (port == 0), where
        assert channel.notify_vcpu < len(domain.vcpus), where
        assert 0 <= channel.priority < PRIORITIES, where
        if channel.consumer_is_xen:
            assert channel.state in (State.UNBOUND, State.INTERDOMAIN), where
        if channel.state == State.INTERDOMAIN:
            remote = host.domains[channel.remote_dom]
            assert remote.alive, where
            peer = remote.channels[channel.remote_port]
            assert peer.state == State.INTERDOMAIN, where
            assert (peer.remote_dom, peer.remote_port) == (domain.domid, port), where
        else:
            assert channel.remote_port == 0, where
        if channel.state <= State.RESERVED:
            assert channel.notify_vcpu == channel.remote_dom == channel.irq == 0, where
            assert domain.profile.usable_only or port not in domain.pending, where
        if not domain.profile.has_fifo:
            assert (channel.priority, channel.saved_pending) == (0, False), where


def check_tables(domain: Domain) -> None:
    """Check that the VIRQ and PIRQ tables name exactly the ports that are bound."""
    virqs = {
        port: (vcpu, virq)
        for vcpu, v in enumerate(domain.vcpus)
        for virq, port in v.virq_to_port.items()
    }
    pirqs = {port: pirq for pirq, port in domain.pirq_to_port.items()}
    for port, channel in enumerate(domain.channels):
        if channel.state == State.VIRQ:
            vcpu, virq = virqs.pop(port)
            assert channel.irq == virq, (domain.domid, port)
            if virq in domain.profile.per_vcpu_virqs:
                assert channel.notify_vcpu == vcpu, (domain.domid, port)
            else:
                assert vcpu == 0, (domain.domid, port)
        elif channel.state == State.PIRQ:
            assert channel.irq == pirqs.pop(port), (domain.domid, port)
    assert not virqs
    assert not pirqs


def check_polls(domain: Domain) -> None:
    """Check that who polls is blocked.

    In xen-4.0 a poll on port 0 may leave its bit in poll_mask behind when a kick ends it.
    """
    for vcpu, v in enumerate(domain.vcpus):
        where = (domain.domid, vcpu, v)
        if v.poll_port:
            assert v.blocked, where
        if v.blocked:
            assert vcpu in domain.poll_mask, where
        elif domain.profile.usable_only:
            assert vcpu not in domain.poll_mask, where
        if domain.profile.usable_only:
            assert v.blocked == (v.poll_port != 0), where


def check_selectors(domain: Domain) -> None:
    """Check that 2-level events live where the bitmaps reach, and a selector comes with a kick.

    The last does not hold under the FIFO ABI, whose handler clears upcall_pending but not a
    selector that has been left over, nor in a domain that has come back from there.
    """
    limit = domain.config.word_bits**2
    assert all(port < min(limit, len(domain.channels)) for port in domain.pending)
    assert all(port < limit for port in domain.mask)
    for v in domain.vcpus:
        assert all(word < domain.config.word_bits for word in v.pending_sel)
        if v.pending_sel and not domain.profile.has_fifo:
            assert v.upcall_pending


def check_fifo(domain: Domain, fifo: Fifo) -> None:
    """Check the queues of a domain under the FIFO ABI.

    - Every LINKED port is on exactly one queue, and no other port is on any. It may be of any
      state, FREE (then it is busy) and Xen-attached included. The queue is its last_queue, which
      bind_vcpu and set_priority may have parted from its notify_vcpu and priority.
    - A queue that is not empty has its ready bit set, in the control block or among those that a
      running handler has taken; and the other way round.
    - The tail of a queue that is not empty is its last port. That of an empty one may be 0 or any
      port that was on it last and is not LINKED anywhere now. The head of an empty one is stale.
    - Ready bits in a control block go with upcall_pending.
    - LINK means something in a LINKED word only, and is 0 in all others.

    It does not hold that a pending, unmasked port is LINKED. An unmask clears MASKED also where
    it cannot link, on a vcpu without control block, and nothing catches up on it.
    """
    assert fifo.num_evtchns % WORDS_PER_PAGE == 0
    assert fifo.num_evtchns <= fifo.limit
    on_queue: dict[int, tuple[int, int]] = {}
    for vcpu, block in fifo.blocks.items():
        assert not block.ready or domain.vcpus[vcpu].upcall_pending, (domain.domid, vcpu)
        for priority in range(PRIORITIES):
            queue = (vcpu, priority)
            where = (domain.domid, *queue, block)
            ready = priority in block.ready | block.local_ready
            if block.local_head[priority]:
                assert priority in block.local_ready, where
            port = block.local_head[priority] or block.head[priority]
            tail = fifo.tails.get(queue, 0)
            if not ready:
                assert tail == 0 or not fifo.words[tail].linked, where
                continue
            assert port != 0, where
            while port:
                word = fifo.words[port]
                assert word.linked, (where, port)
                assert port not in on_queue, (where, port)
                on_queue[port] = queue
                assert domain.channels[port].last_queue == queue, (where, port)
                last, port = port, word.link
            assert tail == last, where
    assert {vcpu for (vcpu, _), tail in fifo.tails.items() if tail} <= fifo.blocks.keys()
    for port, word in fifo.words.items():
        where = (domain.domid, port, word)
        assert port < fifo.num_evtchns, where
        assert word.linked == (port in on_queue), where
        assert word.linked or word.link == 0, where
        assert not (word.pending or word.linked) or port < len(domain.channels), where
