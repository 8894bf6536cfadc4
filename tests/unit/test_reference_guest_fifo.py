"""The reference guest model under the FIFO ABI against times worked out by hand.

As in test_reference_guest, a wake takes 100 ns and handling an event 10. Ports 1, 2, 3, ... are
IPIs of one domain with two vcpus, both with a control block, and a page of event words.
"""

import pytest

from tests.reference import (
    DOMID_SELF,
    DomainConfig,
    Effect,
    Errno,
    Op,
    Outcome,
    Record,
    check_invariants,
)
from tests.reference_guest import EOI, HANDLER, Due, GuestConfig, GuestHost


def make_host(*vcpus, blocks=(0, 1), words=True, scan="linux", **guest):
    """A domain with an IPI for each of these vcpus."""
    config = GuestConfig(lambda dom, vcpu, n: 100, lambda dom, vcpu, n: 10, scan, **guest)
    domain = DomainConfig(vcpus=2, privileged=True, nr_pirqs=4, pirq_permitted=True)
    host = GuestHost([domain], lambda dom: config, "xen-4.23")
    for vcpu in blocks:
        assert do(host, 0, Op.INIT_CONTROL, vcpu).rc == 0
    if words and blocks:
        assert do(host, 0, Op.EXPAND_ARRAY).rc == 0
    for vcpu in vcpus:
        do(host, 0, Op.BIND_IPI, vcpu)
    return host


def do(host, ts, op, arg0=0, arg1=0, vcpu=0, flags=0):
    outcome = host.apply(Record(ts, 0, vcpu, op, flags, arg0, arg1))
    check_invariants(host)
    return outcome


def send(host, ts, *ports):
    for port in ports:
        assert do(host, ts, Op.SEND, port).rc == 0


def drained(host):
    host.drain()
    check_invariants(host)
    return [(d.ts, d.vcpu, d.port) for d in host.deliveries]


def priorities(host, **by_port):
    for port, priority in by_port.items():
        assert do(host, 0, Op.SET_PRIORITY, int(port[1:]), priority).rc == 0


# Rounds


@pytest.mark.parametrize("scan", ["linux", "lowest"])
def test_events_come_by_priority_then_in_the_order_in_which_they_were_raised(scan):
    host = make_host(0, 0, 0, 0, scan=scan)
    priorities(host, p3=15, p2=0)
    send(host, 0, 3, 4, 1, 2)
    assert drained(host) == [(100, 0, 2), (110, 0, 4), (120, 0, 1), (130, 0, 3)]


def test_priority_is_looked_at_anew_after_every_event():
    host = make_host(0, 0, 0)
    priorities(host, p3=0)
    send(host, 0, 1, 2)
    send(host, 105, 3)
    assert drained(host) == [(100, 0, 1), (110, 0, 3), (120, 0, 2)]


def test_what_is_raised_while_it_is_handled_comes_again_in_the_same_round():
    host = make_host(0)
    send(host, 0, 1)
    assert do(host, 105, Op.SEND, 1).effects == Effect.SET | Effect.SELECTED | Effect.KICK
    assert drained(host) == [(100, 0, 1), (110, 0, 1)]
    assert host.vcpu[0, 0]["upcalls"] == 1
    assert host.vcpu[0, 0]["kicks"] == 2


def test_an_event_coalesces_until_its_turn_comes():
    host = make_host(0, 0)
    send(host, 0, 1, 2)
    send(host, 105, 2)
    send(host, 115, 2)
    assert drained(host) == [(100, 0, 1), (110, 0, 2), (120, 0, 2)]
    assert [d.coalesced for d in host.deliveries] == [0, 1, 0]


def test_an_event_that_is_masked_or_gone_at_its_turn_is_consumed_in_no_time():
    host = make_host(0, 0, 0, 0)
    send(host, 0, 1, 2, 3, 4)
    do(host, 105, Op.CLEAR_PENDING, 2)
    do(host, 105, Op.MASK, 3)
    assert drained(host) == [(100, 0, 1), (110, 0, 4)]
    # Linked again by the unmask, which is no new notification.
    assert do(host, 200, Op.UNMASK, 3).effects == (Effect.COALESCED | Effect.SELECTED | Effect.KICK)
    assert drained(host)[2:] == [(300, 0, 3)]
    assert host.deliveries[-1].coalesced == 0
    assert host.deliveries[-1].raised_ts == 0
    assert (host.port[0, 3]["raised"], host.port[0, 3]["coalesced"]) == (1, 0)


def test_more_urgent_events_are_looked_for_after_a_skipped_one_too():
    host = make_host(0, 0, 0)
    send(host, 0, 1, 2)
    do(host, 105, Op.MASK, 2)
    send(host, 105, 3)
    assert drained(host) == [(100, 0, 1), (110, 0, 3)]


def test_events_stay_on_the_queue_of_the_vcpu_they_were_linked_on():
    host = make_host()
    do(host, 0, Op.BIND_PIRQ, 0)
    do(host, 0, Op.RAISE_PIRQ, 0)
    do(host, 50, Op.BIND_VCPU, 1, 1)
    assert drained(host) == [(100, 0, 1)]
    do(host, 200, Op.RAISE_PIRQ, 0)
    assert drained(host)[1:] == [(300, 1, 1)]


def test_the_timer_has_no_precedence():
    host = make_host(0)
    do(host, 0, Op.BIND_VIRQ, 0)
    send(host, 0, 1)
    do(host, 0, Op.RAISE_VIRQ, 0)
    assert drained(host) == [(100, 0, 1), (110, 0, 2)]


def test_a_vcpu_without_control_block_ends_its_round_at_once():
    host = make_host(1, blocks=())
    send(host, 0, 1)  # under the 2-level ABI
    do(host, 50, Op.INIT_CONTROL, 0)
    do(host, 50, Op.EXPAND_ARRAY)
    assert drained(host) == []
    assert host.vcpu[0, 1] == {"kicks": 1, "upcalls": 1, "spurious": 1}
    assert not host.domains[0].vcpus[1].upcall_pending
    # Its event was to be raised again by expand_array, and was lost there.
    assert host.port[0, 1]["no_control_block"] == 1
    assert host.outstanding() == {(0, 1): 1}


# Late EOIs


def test_a_late_eoi_links_what_was_raised_behind_the_mask():
    host = make_host(0, eoi="late", eoi_ns=50)
    send(host, 0, 1)
    assert do(host, 120, Op.SEND, 1).effects == Effect.SET | Effect.MASKED
    assert do(host, 130, Op.SEND, 1).effects == Effect.COALESCED
    assert host.next_due() == Due(160, 0, 0, EOI, 1)
    assert drained(host) == [(100, 0, 1), (260, 0, 1)]
    assert [d.coalesced for d in host.deliveries] == [0, 1]
    assert host.port[0, 1]["raised"] == 3
    assert host.port[0, 1]["coalesced"] == 1


def test_closing_unmasks_first_and_leaves_the_port_busy_for_the_round_to_come():
    host = make_host(0, eoi="late", eoi_ns=50)
    send(host, 0, 1)
    send(host, 120, 1)
    assert do(host, 130, Op.CLOSE, 1) == Outcome()
    assert do(host, 131, Op.BIND_IPI, 0).port == 2  # 1 is LINKED
    assert drained(host) == [(100, 0, 1)]
    assert host.vcpu[0, 0]["spurious"] == 1
    assert do(host, 300, Op.BIND_IPI, 0).port == 1


def test_a_mask_record_that_has_no_word_to_mask_leaves_the_eoi():
    host = make_host(0, blocks=(), eoi="late", eoi_ns=50)
    send(host, 0, 1)
    do(host, 120, Op.INIT_CONTROL, 0)
    assert do(host, 120, Op.MASK, 1).rc == -Errno.EINVAL
    assert host.next_due() == Due(160, 0, 0, EOI, 1)
    host.drain()
    # There was nothing to unmask either: the mask bit of the 2-level ABI is out of reach.
    assert host.domains[0].mask == {1}


def test_the_later_of_two_eois_of_a_port_counts():
    host = make_host(0, blocks=(), eoi="late", eoi_ns=50)
    send(host, 0, 1)
    do(host, 105, Op.INIT_CONTROL, 0)
    do(host, 105, Op.EXPAND_ARRAY)
    send(host, 106, 1)  # its word knows of no mask; handled at 110
    assert drained(host) == [(100, 0, 1), (110, 0, 1)]
    assert host.now == 170


def test_freeing_a_port_of_xens_ends_its_eoi():
    host = make_host(0, words=False, eoi="late", eoi_ns=50)
    send(host, 0, 1)  # saved
    do(host, 0, Op.CLOSE, 1)
    assert do(host, 0, Op.ALLOC_XEN, 0).port == 1
    do(host, 0, Op.EXPAND_ARRAY)
    assert host.domains[0].abi.is_pending(1)
    host.advance(101)
    assert host.next_due() == Due(110, 0, 0, HANDLER, 0)
    do(host, 120, Op.FREE_XEN, 1)
    assert drained(host) == [(100, 0, 1)]
    assert host.deliveries[0].type == "interdomain"
    assert host.domains[0].abi.is_masked(1)  # not usable, so it was not unmasked


# Changes of the ABI


def test_a_reset_ends_the_round_at_the_end_of_the_event():
    host = make_host(0, 0, 0)
    send(host, 0, 1, 2)
    do(host, 105, Op.RESET, DOMID_SELF)
    for _ in range(3):
        do(host, 106, Op.BIND_IPI, 0)
    send(host, 106, 3)  # 2-level: selector and upcall_pending set
    assert drained(host) == [(100, 0, 1), (110, 0, 3)]
    assert host.vcpu[0, 0]["upcalls"] == 1
    assert host.port[0, 2]["cleared"] == 1


def test_a_round_does_not_come_back_with_the_abi():
    host = make_host(0, 0)
    send(host, 0, 1, 2)
    do(host, 105, Op.RESET, DOMID_SELF)
    do(host, 105, Op.INIT_CONTROL, 0)
    do(host, 105, Op.EXPAND_ARRAY)
    assert do(host, 105, Op.BIND_IPI, 0).port == 1
    assert drained(host) == [(100, 0, 1)]
    assert not host.domains[0].vcpus[0].upcall_pending


def test_a_switch_to_fifo_ends_a_2_level_round():
    host = make_host(0, 0, blocks=())
    send(host, 0, 1, 2)
    do(host, 105, Op.INIT_CONTROL, 0)
    assert drained(host) == [(100, 0, 1)]
    assert host.domains[0].pending == {2}
    assert host.domains[0].channels[2].saved_pending
    do(host, 200, Op.EXPAND_ARRAY)
    assert drained(host)[1:] == [(300, 0, 2)]
    # The 2-level bit is still there, out of sight.
    assert host.port[0, 2]["set"] == 2
    assert host.outstanding() == {(0, 2): 1}


def test_a_2_level_round_leaves_its_cursor_where_a_switch_ended_it():
    host = make_host(0, 0, 0, blocks=())
    send(host, 0, 2, 3)
    do(host, 105, Op.INIT_CONTROL, 0)
    do(host, 120, Op.RESET, DOMID_SELF)
    for _ in range(3):
        do(host, 130, Op.BIND_IPI, 0)
    do(host, 130, Op.CLEAR_PENDING, 3)  # left over
    send(host, 130, 1, 3)
    assert drained(host) == [(100, 0, 2), (230, 0, 3), (240, 0, 1)]


def test_a_bit_that_comes_back_starts_when_it_does():
    host = make_host(0, blocks=())
    do(host, 0, Op.SET_UPCALL_MASK, 1)
    do(host, 0, Op.BIND_PIRQ, 0)
    do(host, 0, Op.RAISE_PIRQ, 0)
    do(host, 0, Op.RAISE_PIRQ, 0)
    do(host, 100, Op.INIT_CONTROL, 0)
    do(host, 300, Op.RESET, DOMID_SELF)
    do(host, 400, Op.SET_UPCALL_MASK, 0)
    host.drain()
    # What it was when it came back is FREE, which counts as interdomain.
    assert host.deliveries == [(500, 0, 0, 2, "interdomain", 300, 200, 0, 1)]
    counts = host.port[0, 2]
    assert (counts["pending_ns"], counts["latency_sum"]) == (100 + 200, 200)
    assert (counts["set"], counts["cleared"], counts["delivered"]) == (1, 0, 1)


def test_destroy_drops_the_round_and_the_bits_of_both_abis():
    host = make_host(0, 0, blocks=())
    do(host, 0, Op.MASK, 1)
    send(host, 0, 1)
    do(host, 10, Op.INIT_CONTROL, 0)
    do(host, 10, Op.EXPAND_ARRAY)
    send(host, 20, 2)
    assert host.outstanding() == {(0, 1): 2, (0, 2): 1}
    do(host, 115, Op.DESTROY_DOMAIN)
    assert host.port[0, 1]["cleared"] == 1  # the other one has been delivered at 110
    assert host.next_due() is None
    assert host.outstanding() == {}
