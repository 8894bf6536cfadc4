"""The reference guest model against times worked out by hand.

Unless a test says otherwise a wake takes 100 ns and handling an event 10, and ports 1, 2, 3, ...
are IPIs of one domain, so that a send to one of them notifies it.
"""

import pytest

from tests.reference import DomainConfig, Effect, Errno, Op, Outcome, Record
from tests.reference_guest import EOI, HANDLER, Due, GuestConfig, GuestHost


def taking(ns):
    """A duration: always the same, or a list by number."""
    return (lambda dom, vcpu, n: ns) if isinstance(ns, int) else (lambda dom, vcpu, n: ns[n])


def make_host(*configs, wake=100, handler=10, **guest):
    config = GuestConfig(taking(wake), taking(handler), **guest)
    all_rights = DomainConfig(vcpus=2, privileged=True, nr_pirqs=4, pirq_permitted=True)
    return GuestHost(configs or [all_rights], lambda dom: config)


def do(host, ts, op, arg0=0, arg1=0, vcpu=0, dom=0, flags=0):
    return host.apply(Record(ts, dom, vcpu, op, flags, arg0, arg1))


def bind_ipis(host, *vcpus, ts=0, dom=0):
    return [do(host, ts, Op.BIND_IPI, vcpu, dom=dom).port for vcpu in vcpus]


def send(host, ts, *ports, dom=0):
    for port in ports:
        assert do(host, ts, Op.SEND, port, dom=dom).rc == 0


def drained(host):
    """What was delivered, in all, as (ts, vcpu, port)."""
    host.drain()
    return [(d.ts, d.vcpu, d.port) for d in host.deliveries]


both_scans = pytest.mark.parametrize("scan", ["linux", "lowest"])


# Ruling 1: numbers


def test_every_scheduling_uses_the_next_wake_number_of_its_vcpu():
    host = make_host(wake=[100, 200, 300, 400])
    bind_ipis(host, 0, 1)
    send(host, 0, 1)  # vcpu 0's wake 0
    send(host, 1000, 1)  # its wake 1
    send(host, 2000, 2)  # vcpu 1's wake 0
    do(host, 3000, Op.SET_UPCALL_MASK, 1)
    send(host, 3000, 1)  # not scheduled: takes no number
    do(host, 3500, Op.SET_UPCALL_MASK, 0)  # wake 2
    assert drained(host) == [(100, 0, 1), (1200, 0, 1), (2100, 1, 2), (3800, 0, 1)]


def test_handler_numbers_count_the_events_of_a_vcpu():
    host = make_host(handler=[10, 20, 30, 40])
    bind_ipis(host, 0, 0, 0, 1, 1)
    send(host, 0, 1, 2, 3, 4, 5)
    assert drained(host) == [(100, 0, 1), (100, 1, 4), (110, 0, 2), (110, 1, 5), (130, 0, 3)]


def test_numbers_and_batches_go_on_over_destroy_and_create():
    host = make_host(wake=[100, 200], handler=[10, 20, 30])
    bind_ipis(host, 0, 0)
    send(host, 0, 1)
    do(host, 1000, Op.DESTROY_DOMAIN)
    do(host, 1000, Op.CREATE_DOMAIN)
    bind_ipis(host, 0, 0, ts=1000)
    send(host, 1000, 1, 2)
    # Wake number 1 is 200, handler number 1 is 20.
    assert drained(host) == [(100, 0, 1), (1200, 0, 1), (1220, 0, 2)]
    assert [d.batch for d in host.deliveries] == [1, 2, 2]


# Ruling 2: who is scheduled, and when


def test_a_kick_by_whatever_means_schedules_an_idle_vcpu():
    host = make_host()
    do(host, 0, Op.BIND_VIRQ, 3)
    do(host, 0, Op.BIND_PIRQ, 2)
    do(host, 0, Op.BIND_IPI, 0)
    do(host, 0, Op.ALLOC_UNBOUND, 0, 0)
    do(host, 0, Op.RAISE_VIRQ, 3)
    do(host, 1000, Op.RAISE_PIRQ, 2)
    send(host, 2000, 3)
    do(host, 3000, Op.BIND_INTERDOMAIN, 0, 4)
    do(host, 4000, Op.MASK, 3)
    send(host, 4000, 3)
    do(host, 4500, Op.UNMASK, 3)
    assert drained(host) == [(100, 0, 1), (1100, 0, 2), (2100, 0, 3), (3100, 0, 5), (4600, 0, 3)]


def test_a_kick_while_running_makes_another_round_and_no_wake():
    host = make_host(scan="lowest")
    bind_ipis(host, *[0] * 70)
    send(host, 0, 65)
    send(host, 105, 1)  # word 0 was never selected: a kick, but of a running vcpu
    assert host.vcpu[0, 0]["kicks"] == 2
    assert drained(host) == [(100, 0, 65), (110, 0, 1)]
    assert host.vcpu[0, 0]["upcalls"] == 1


def test_nothing_is_scheduled_behind_the_upcall_mask():
    host = make_host()
    bind_ipis(host, 0, 1)
    do(host, 0, Op.SET_UPCALL_MASK, 1)
    send(host, 0, 1, 2)
    assert drained(host) == [(100, 1, 2)]
    do(host, 500, Op.SET_UPCALL_MASK, 0)
    assert drained(host)[1:] == [(600, 0, 1)]


def test_a_handler_that_finds_upcalls_masked_does_not_start():
    host = make_host(wake=[100, 200])
    bind_ipis(host, 0)
    send(host, 0, 1)
    do(host, 50, Op.SET_UPCALL_MASK, 1)
    assert drained(host) == []
    assert host.vcpu[0, 0]["upcalls"] == 0
    send(host, 150, 1)  # coalesces, so there is no kick
    do(host, 160, Op.SET_UPCALL_MASK, 0)
    assert drained(host) == [(360, 0, 1)]
    assert host.deliveries[0].batch == 1


def test_a_mask_taken_back_before_the_due_time_changes_nothing():
    host = make_host()
    bind_ipis(host, 0)
    send(host, 0, 1)
    do(host, 50, Op.SET_UPCALL_MASK, 1)
    do(host, 60, Op.SET_UPCALL_MASK, 0)  # scheduled already
    assert drained(host) == [(100, 0, 1)]
    assert host.wakes == {(0, 0): 1}


def test_upcall_mask_is_looked_at_when_a_record_of_the_same_time_has_set_it():
    host = make_host()
    bind_ipis(host, 0)
    send(host, 0, 1)
    do(host, 100, Op.SET_UPCALL_MASK, 1)
    assert drained(host) == []


def test_clearing_the_upcall_mask_without_an_event_schedules_nothing():
    host = make_host()
    do(host, 0, Op.SET_UPCALL_MASK, 1)
    do(host, 10, Op.SET_UPCALL_MASK, 0)
    assert host.next_due() is None


def test_clearing_the_upcall_mask_of_a_running_vcpu_schedules_nothing():
    host = make_host(scan="lowest")
    bind_ipis(host, 0, 0)
    send(host, 0, 1)
    send(host, 103, 2)  # upcall_pending is set again
    do(host, 105, Op.SET_UPCALL_MASK, 1)  # which a running handler does not look at
    do(host, 106, Op.SET_UPCALL_MASK, 0)
    assert drained(host) == [(100, 0, 1), (110, 0, 2)]
    assert host.wakes == {(0, 0): 1}


# Ruling 3: the handler


@both_scans
def test_a_running_handler_goes_round_again_with_upcalls_masked(scan):
    host = make_host(scan=scan)
    bind_ipis(host, 0, 0)
    send(host, 0, 1)
    do(host, 105, Op.SET_UPCALL_MASK, 1)
    send(host, 105, 2)
    assert drained(host) == [(100, 0, 1), (110, 0, 2)]
    send(host, 500, 1)
    assert len(drained(host)) == 2


@both_scans
def test_an_event_coalesces_until_its_turn_comes(scan):
    host = make_host(scan=scan)
    bind_ipis(host, 0, 0)
    send(host, 0, 1, 2)
    send(host, 105, 2)  # 1 is being handled
    send(host, 115, 2)  # 2 is being handled: it is set anew
    assert drained(host) == [(100, 0, 1), (110, 0, 2), (120, 0, 2)]
    assert [d.coalesced for d in host.deliveries] == [0, 1, 0]


@both_scans
def test_an_event_that_is_gone_when_its_turn_comes_takes_no_time(scan):
    host = make_host(scan=scan)
    for pirq in range(4):
        do(host, 0, Op.BIND_PIRQ, pirq)  # ports 1 to 4
    do(host, 0, Op.BIND_IPI, 0)
    for pirq in range(4):
        do(host, 0, Op.RAISE_PIRQ, pirq)
    send(host, 0, 5)
    do(host, 105, Op.CLEAR_PENDING, 2)
    do(host, 105, Op.MASK, 3)
    do(host, 105, Op.BIND_VCPU, 4, 1)
    assert drained(host) == [(100, 0, 1), (110, 0, 5)]


@both_scans
def test_an_event_masked_and_unmasked_before_its_turn_is_delivered_once(scan):
    host = make_host(scan=scan)
    bind_ipis(host, 0, 0)
    send(host, 0, 1, 2)
    do(host, 105, Op.MASK, 2)
    do(host, 106, Op.UNMASK, 2)  # selects the word again, for a round that finds nothing
    assert drained(host) == [(100, 0, 1), (110, 0, 2)]
    assert host.vcpu[0, 0]["spurious"] == 0


def test_lowest_reads_a_word_when_it_is_reached_and_once():
    host = make_host(scan="lowest")
    bind_ipis(host, *[0] * 80)
    send(host, 0, 1, 70)
    send(host, 105, 71)  # word 1 has not been read: this round
    send(host, 115, 72, 2)  # word 1 has been read, while 70 is handled: the next round
    assert drained(host) == [
        (100, 0, 1),
        (110, 0, 70),
        (120, 0, 71),
        (130, 0, 2),
        (140, 0, 72),
    ]


def test_lowest_starts_every_round_at_the_lowest_port():
    host = make_host(scan="lowest")
    bind_ipis(host, *[0] * 70)
    send(host, 0, 3)
    send(host, 1000, 70, 5, 3)
    assert drained(host)[1:] == [(1100, 0, 3), (1110, 0, 5), (1120, 0, 70)]


def test_linux_starts_where_it_stopped_and_ends_with_the_start_words_lower_part():
    host = make_host()
    bind_ipis(host, *[0] * 70)
    send(host, 0, 3)  # leaves the cursor at word 0, bit 4
    send(host, 1000, 3, 5, 70)
    assert drained(host)[1:] == [(1100, 0, 5), (1110, 0, 70), (1120, 0, 3)]
    send(host, 2000, 3, 5)  # again at bit 4, as 3 came last
    assert drained(host)[4:] == [(2100, 0, 5), (2110, 0, 3)]


def test_linux_goes_on_with_the_next_word_after_the_last_bit():
    host = make_host()
    bind_ipis(host, *[0] * 70)
    send(host, 0, 63)  # cursor: word 1, bit 0
    send(host, 1000, 1, 70)
    assert drained(host)[1:] == [(1100, 0, 70), (1110, 0, 1)]


def test_linux_wraps_from_the_last_word_to_the_first_of_a_32_bit_guest():
    host = make_host(DomainConfig(word_bits=32))
    bind_ipis(host, *[0] * 1023)
    send(host, 0, 1000)  # word 31, bit 8: cursor at word 31, bit 9
    send(host, 1000, 992, 1001, 1)
    # The upper part of word 31; m is empty above it only after a wrap to 0; word 31 as a whole.
    assert drained(host)[1:] == [(1100, 0, 1001), (1110, 0, 1), (1120, 0, 992)]
    send(host, 2000, 1023)  # bit 31 of word 31: cursor at word 0, bit 0
    send(host, 3000, 992, 1)
    assert drained(host)[5:] == [(3100, 0, 1), (3110, 0, 992)]


def test_linux_reads_the_start_word_again_when_it_comes_back_to_it():
    host = make_host()
    bind_ipis(host, *[0] * 140)
    send(host, 0, 3, 70)
    # 5 is not in what was read of word 0 at 100. Word 0 is read a second time after word 1, and
    # what is raised during that comes only in the next round, which starts at bit 6 of word 0.
    send(host, 105, 5)
    send(host, 125, 71, 4)
    assert drained(host) == [
        (100, 0, 3),
        (110, 0, 70),
        (120, 0, 5),
        (130, 0, 71),
        (140, 0, 4),
    ]
    assert host.vcpu[0, 0]["upcalls"] == 1


def test_linux_moves_on_over_a_skipped_event():
    host = make_host()
    bind_ipis(host, *[0] * 7)
    send(host, 0, 3, 5)
    do(host, 105, Op.MASK, 5)  # skipped at 110, which leaves the cursor at bit 6
    send(host, 1000, 4, 7)
    assert drained(host) == [(100, 0, 3), (1100, 0, 7), (1110, 0, 4)]


def test_linux_handles_the_timer_first():
    host = make_host()
    bind_ipis(host, 0, 0, 0)
    do(host, 0, Op.BIND_VIRQ, 0)  # VIRQ_TIMER: port 4
    send(host, 0, 2)
    do(host, 0, Op.RAISE_VIRQ, 0)
    send(host, 105, 1)  # in time for this round, since no word has been read
    assert drained(host) == [(100, 0, 4), (110, 0, 1), (120, 0, 2)]
    # The timer has not moved the cursor (word 0, bit 3), and it comes first in every round.
    send(host, 1000, 3)
    do(host, 1105, Op.RAISE_VIRQ, 0)
    send(host, 1105, 2)
    # 1100: 3. The start word's second visit at 1110 finds 2 and 4. Round 2 finds nothing.
    assert drained(host)[3:] == [(1100, 0, 3), (1110, 0, 2), (1120, 0, 4)]


def test_linux_takes_the_selector_only_after_the_timer():
    host = make_host()
    bind_ipis(host, *[0] * 70)
    do(host, 0, Op.BIND_VIRQ, 0)  # port 71, in word 1
    send(host, 0, 70)
    do(host, 0, Op.RAISE_VIRQ, 0)
    send(host, 105, 1)  # word 0: selected in time, so it comes before word 1
    assert drained(host) == [(100, 0, 71), (110, 0, 1), (120, 0, 70)]


def test_lowest_knows_no_timer():
    host = make_host(scan="lowest")
    bind_ipis(host, 0)
    do(host, 0, Op.BIND_VIRQ, 0)
    send(host, 0, 1)
    do(host, 0, Op.RAISE_VIRQ, 0)
    assert drained(host) == [(100, 0, 1), (110, 0, 2)]


def test_a_masked_timer_waits():
    host = make_host()
    do(host, 0, Op.BIND_VIRQ, 0)
    bind_ipis(host, 0)
    do(host, 0, Op.MASK, 1)
    do(host, 0, Op.RAISE_VIRQ, 0)
    send(host, 0, 2)
    assert drained(host) == [(100, 0, 2)]


def test_the_cursor_starts_anew_with_the_domain():
    host = make_host()
    bind_ipis(host, 0, 0, 0)
    send(host, 0, 2)  # cursor at bit 3
    do(host, 1000, Op.DESTROY_DOMAIN)
    do(host, 1000, Op.CREATE_DOMAIN)
    bind_ipis(host, 0, 0, 0, ts=1000)
    send(host, 1000, 1, 3)
    assert drained(host)[1:] == [(1100, 0, 1), (1110, 0, 3)]


def test_each_vcpu_has_its_own_cursor():
    host = make_host()
    bind_ipis(host, 0, 0, 0, 1, 1)
    send(host, 0, 2)
    send(host, 1000, 1, 3, 4, 5)
    assert drained(host)[1:] == [(1100, 0, 3), (1100, 1, 4), (1110, 0, 1), (1110, 1, 5)]


# Ruling 4: EOIs. Handling starts at 100 and ends at 110, so the EOI is due at 160.


def late(**more):
    host = make_host(eoi="late", eoi_ns=50, **more)
    bind_ipis(host, 0)
    send(host, 0, 1)
    return host


def test_a_late_eoi_masks_at_the_start_and_unmasks_after_the_end():
    host = late()
    host.advance(100)
    assert host.domains[0].mask == set()
    host.advance(101)
    assert host.domains[0].mask == {1}
    assert do(host, 120, Op.SEND, 1).effects == Effect.SET | Effect.MASKED
    host.advance(160)
    assert host.domains[0].mask == {1}
    host.advance(161)
    assert host.domains[0].mask == set()
    assert host.vcpu[0, 0]["kicks"] == 2
    assert drained(host) == [(100, 0, 1), (260, 0, 1)]


def test_an_edge_eoi_masks_nothing():
    host = make_host(eoi="edge", eoi_ns=50)
    bind_ipis(host, 0)
    send(host, 0, 1)
    host.advance(101)
    assert host.domains[0].mask == set()
    assert host.next_due() == Due(110, 0, 0, HANDLER, 0)


@pytest.mark.parametrize("ts", [105, 120, 160])
def test_a_mask_record_cancels_the_eoi(ts):
    host = late()
    do(host, ts, Op.MASK, 1)
    send(host, 170, 1)
    assert drained(host) == [(100, 0, 1)]
    assert host.domains[0].mask == {1}


@pytest.mark.parametrize("ts", [105, 120])
def test_an_unmask_record_cancels_the_eoi_and_does_its_work(ts):
    host = late()
    send(host, ts, 1)
    outcome = do(host, ts, Op.UNMASK, 1)
    assert outcome.effects == Effect.SELECTED | Effect.KICK
    do(host, 130, Op.MASK, 1)  # nothing takes this away at 160
    host.advance(200)
    assert host.domains[0].mask == {1}


def test_a_record_that_never_reaches_its_operation_cancels_nothing():
    host = late()
    assert do(host, 120, Op.UNMASK, 1, flags=1).rc == -Errno.EFAULT
    assert do(host, 120, Op.MASK, 1, vcpu=9).rc == -Errno.ENOENT
    assert host.next_due() == Due(160, 0, 0, EOI, 1)


@pytest.mark.parametrize(("op", "arg0"), [(Op.CLOSE, 1), (Op.RESET, 0x7FF0)])
def test_closing_unmasks_first(op, arg0):
    host = late()
    send(host, 120, 1)
    outcome = do(host, 130, op, arg0)
    assert outcome == Outcome()  # the kick is the EOI's, not the record's
    assert host.domains[0].mask == set()
    assert host.domains[0].pending == set()
    assert host.next_due() == Due(230, 0, 0, HANDLER, 0)
    assert drained(host) == [(100, 0, 1)]
    assert host.vcpu[0, 0] == {
        "kicks": 2,
        "upcalls": 2,
        "delivered": 1,
        "largest_batch": 1,
        "spurious": 1,
    }
    assert host.port[0, 1]["cleared"] == 1


def test_closing_during_the_handling_ends_the_eoi_but_not_the_handling():
    host = late()
    bind_ipis(host, 0)
    send(host, 0, 2)
    do(host, 105, Op.CLOSE, 1)
    assert host.domains[0].mask == set()
    assert drained(host) == [(100, 0, 1), (110, 0, 2)]


def test_closing_without_an_eoi_leaves_the_mask_bit():
    host = late()
    host.advance(200)
    do(host, 200, Op.MASK, 1)
    do(host, 200, Op.CLOSE, 1)
    assert host.domains[0].mask == {1}


def test_a_close_that_fails_leaves_the_eoi():
    host = late()
    assert do(host, 120, Op.CLOSE, 1, flags=1).rc == -Errno.EFAULT
    assert do(host, 120, Op.CLOSE, 0).rc == -Errno.EINVAL
    assert host.next_due() == Due(160, 0, 0, EOI, 1)


def test_a_reset_unmasks_every_port_before_closing_it():
    # Both ports wait for their EOIs with an event. The unmask of port 1 kicks the vcpu; that of
    # port 2 finds the word selected. The handler finds neither.
    host = make_host(eoi="late", eoi_ns=500)
    bind_ipis(host, 0, 0)
    send(host, 0, 1, 2)
    send(host, 200, 1, 2)
    do(host, 300, Op.RESET, 0x7FF0)
    assert host.domains[0].mask == set()
    assert host.vcpu[0, 0]["kicks"] == 2
    assert host.next_due() == Due(400, 0, 0, HANDLER, 0)
    assert drained(host) == [(100, 0, 1), (110, 0, 2)]


def test_destroy_drops_handlers_and_eois():
    host = late()
    bind_ipis(host, 1, 0)
    send(host, 0, 2, 3)
    send(host, 101, 1)  # pending and masked
    do(host, 105, Op.DESTROY_DOMAIN)  # both vcpus running, EOIs of 1 and 2 outstanding
    assert host.next_due() is None
    do(host, 105, Op.CREATE_DOMAIN)
    assert drained(host) == [(100, 0, 1), (100, 1, 2)]
    assert host.vcpu[0, 0]["kicks"] == 1
    assert host.port[0, 1]["cleared"] == 1


def test_destroy_unmasks_nothing():
    host = late(wake=[100, 200])
    send(host, 120, 1)
    do(host, 130, Op.DESTROY_DOMAIN)  # an unmask would have kicked an idle vcpu
    do(host, 130, Op.CREATE_DOMAIN)
    bind_ipis(host, 0, ts=130)
    send(host, 130, 1)
    assert drained(host) == [(100, 0, 1), (330, 0, 1)]
    assert host.wakes == {(0, 0): 2}


def test_destroy_drops_a_scheduled_handler():
    host = late()
    do(host, 50, Op.DESTROY_DOMAIN)
    do(host, 50, Op.CREATE_DOMAIN)
    bind_ipis(host, 0, ts=50)
    send(host, 60, 1)  # the vcpu is idle, so it is scheduled
    assert drained(host) == [(160, 0, 1)]


def test_an_eoi_goes_to_the_vcpu_that_is_notified_by_then():
    host = make_host(eoi="late", eoi_ns=50)
    do(host, 0, Op.BIND_PIRQ, 0)
    do(host, 0, Op.RAISE_PIRQ, 0)
    do(host, 120, Op.BIND_VCPU, 1, 1)
    do(host, 120, Op.RAISE_PIRQ, 0)
    assert drained(host) == [(100, 0, 1), (260, 1, 1)]


def test_the_vcpu_of_a_scheduled_handler_stays_when_the_port_moves():
    host = make_host()
    do(host, 0, Op.BIND_PIRQ, 0)
    do(host, 0, Op.RAISE_PIRQ, 0)
    do(host, 50, Op.BIND_VCPU, 1, 1)
    assert drained(host) == []
    assert host.vcpu[0, 0]["spurious"] == 1
    assert host.vcpu[0, 1]["upcalls"] == 0


def test_the_kick_of_an_eoi_ends_a_poll():
    host = late()
    bind_ipis(host, 0, 0)
    assert do(host, 120, Op.POLL, 3).port == 0
    send(host, 130, 1)  # masked, and not what is polled for
    host.advance(160)
    assert host.domains[0].vcpus[0].blocked
    host.advance(161)
    assert not host.domains[0].vcpus[0].blocked
    assert host.vcpu[0, 0]["poll_wakes"] == 1


def test_an_eoi_without_a_new_event_only_unmasks():
    host = late()
    host.drain()
    assert host.now == 160
    assert host.domains[0].mask == set()
    assert host.vcpu[0, 0]["kicks"] == 1


# Ruling 5: the trace's own upcalls


def test_upcall_records_do_nothing():
    host = make_host()
    bind_ipis(host, 0)
    send(host, 0, 1)
    assert do(host, 10, Op.UPCALL) == Outcome()
    assert do(host, 11, Op.UPCALL, flags=3) == Outcome()
    assert do(host, 12, Op.UPCALL, vcpu=1) == Outcome()
    assert do(host, 13, Op.UPCALL, vcpu=2).rc == -Errno.ENOENT
    assert do(host, 14, Op.UPCALL, dom=1).rc == -Errno.ESRCH
    assert host.domains[0].vcpus[0].upcall_pending
    assert drained(host) == [(100, 0, 1)]
    assert host.vcpu[0, 0]["ignored_upcalls"] == 2
    assert host.vcpu[0, 1]["ignored_upcalls"] == 1


# Ruling 6: order


def test_a_record_comes_before_what_is_due_at_its_time():
    host = make_host()
    bind_ipis(host, 0)
    send(host, 0, 1)
    assert do(host, 100, Op.SEND, 1).effects == Effect.COALESCED
    assert host.deliveries == []
    assert do(host, 101, Op.SEND, 1).effects & Effect.SET
    assert len(host.deliveries) == 1


def test_a_wake_of_0_ns_happens_after_all_records_of_its_time():
    host = make_host(wake=0, handler=0)
    bind_ipis(host, 0, 0)
    send(host, 5, 2, 1)
    assert host.deliveries == []
    assert drained(host) == [(5, 0, 1), (5, 0, 2)]


def test_what_was_due_happens_also_before_a_record_that_fails():
    host = make_host()
    bind_ipis(host, 0)
    send(host, 0, 1)
    assert do(host, 200, Op.SEND, 1, dom=7).rc == -Errno.ESRCH
    assert len(host.deliveries) == 1


def test_advance_stops_before_its_time_and_drain_at_the_last_thing():
    host = make_host()
    bind_ipis(host, 0)
    send(host, 0, 1)
    host.advance(100)
    assert host.deliveries == []
    host.drain()
    assert host.now == 110  # the end of the handling


def test_an_eoi_comes_before_the_handler_that_caused_it_goes_on():
    # At 110 the EOI kicks a vcpu that is still running, hence no wake.
    host = make_host(eoi="late", scan="lowest")
    bind_ipis(host, 0)
    send(host, 0, 1)
    send(host, 105, 1)
    assert drained(host) == [(100, 0, 1), (110, 0, 1)]
    assert host.runs == {(0, 0): 1}


def test_an_eoi_comes_before_the_next_event_even_when_nothing_takes_time():
    host = make_host(wake=0, handler=0, eoi="late", scan="lowest")
    bind_ipis(host, 0, 0)
    send(host, 0, 1, 2)
    happened = []
    while due := host.next_due():
        happened.append(due)
        host._happen(due)
    run, end = Due(0, 0, 0, HANDLER, 0), Due(0, 0, 0, HANDLER, 0)
    assert happened == [run, Due(0, 0, 0, EOI, 1), run, Due(0, 0, 0, EOI, 2), end]


def test_one_vcpu_finishes_its_instant_before_the_next():
    host = make_host(wake=0, handler=0, eoi="late")
    bind_ipis(host, 1, 0, 0)
    send(host, 0, 1, 3, 2)
    assert drained(host) == [(0, 0, 2), (0, 0, 3), (0, 1, 1)]


def test_eois_of_one_instant_come_in_the_order_of_their_ports():
    # Port 70 is handled from 100 to 110 and its EOI is due at 150, port 1 from 120 to 130.
    host = make_host(handler=[10, 0, 0], eoi="late", eoi_ns=40, scan="lowest")
    bind_ipis(host, *[0] * 70)
    send(host, 0, 70)
    send(host, 105, 2, 1)  # both at 110, for no time: EOIs at 150
    host.advance(150)
    happened = []
    while due := host.next_due():
        happened.append(due.port)
        host._happen(due)
    assert happened == [1, 2, 70]


def test_an_eoi_belongs_to_the_vcpu_that_handled_the_event():
    # Port 1, handled on vcpu 1 at 100, has its EOI at 115, when vcpu 0's handler ends, too. By
    # then port 1 notifies vcpu 0. As vcpu 0 comes first, the EOI finds it idle: it has to wake.
    host = make_host(eoi="late", eoi_ns=5)
    do(host, 0, Op.BIND_PIRQ, 0)
    do(host, 0, Op.BIND_VCPU, 1, 1)
    bind_ipis(host, 0)
    do(host, 0, Op.RAISE_PIRQ, 0)
    send(host, 5, 2)
    do(host, 105, Op.RAISE_PIRQ, 0)
    do(host, 105, Op.BIND_VCPU, 1, 0)
    assert drained(host) == [(100, 1, 1), (105, 0, 2), (215, 0, 1)]


def test_domains_come_in_the_order_of_their_numbers():
    host = make_host(DomainConfig(), DomainConfig())
    for dom in (1, 0):
        bind_ipis(host, 0, 0, dom=dom)
        send(host, 0, 1, 2, dom=dom)
    host.drain()
    assert [(d.ts, d.dom) for d in host.deliveries] == [(100, 0), (100, 1), (110, 0), (110, 1)]


# Ruling 7: what is known of a delivery


def test_deliveries_tell_all_about_the_event():
    host = make_host(handler=0)
    do(host, 0, Op.BIND_VIRQ, 3)
    do(host, 0, Op.BIND_PIRQ, 2)
    do(host, 0, Op.BIND_IPI, 0)
    do(host, 0, Op.ALLOC_UNBOUND, 0, 0)
    send(host, 10, 3, 3, 3)
    do(host, 20, Op.RAISE_VIRQ, 3)
    do(host, 30, Op.RAISE_PIRQ, 2)
    do(host, 40, Op.BIND_INTERDOMAIN, 0, 4)
    send(host, 50, 4)
    do(host, 60, Op.CLOSE, 4)  # port 5 is UNBOUND when its event is delivered
    send(host, 200, 3)
    host.drain()
    assert host.deliveries == [
        (110, 0, 0, 1, "virq", 20, 90, 0, 1),
        (110, 0, 0, 2, "pirq", 30, 80, 0, 1),
        (110, 0, 0, 3, "ipi", 10, 100, 2, 1),
        (110, 0, 0, 5, "interdomain", 40, 70, 1, 1),
        (300, 0, 0, 3, "ipi", 200, 100, 0, 2),
    ]


def test_a_bit_cleared_and_set_again_is_another_event():
    host = make_host()
    bind_ipis(host, 0)
    send(host, 0, 1, 1)
    do(host, 40, Op.CLEAR_PENDING, 1)
    send(host, 60, 1)
    host.drain()
    assert host.deliveries == [(100, 0, 0, 1, "ipi", 60, 40, 0, 1)]


def test_a_batch_is_a_run_also_when_it_delivers_nothing_or_goes_round():
    host = make_host()
    bind_ipis(host, *[0] * 70)
    send(host, 0, 1)
    do(host, 50, Op.CLEAR_PENDING, 1)  # run 1 finds nothing
    send(host, 500, 1)
    send(host, 605, 70)  # run 2 goes round for it
    send(host, 1000, 1)
    host.drain()
    assert [(d.ts, d.batch) for d in host.deliveries] == [(600, 2), (610, 2), (1100, 3)]


# Ruling 8: polls


def test_handlers_leave_polls_alone():
    host = make_host()
    bind_ipis(host, 0, 0, 0)
    send(host, 0, 1, 2)
    assert do(host, 105, Op.POLL, 3).port == 0
    assert drained(host) == [(100, 0, 1), (110, 0, 2)]
    assert host.domains[0].vcpus[0].blocked
    assert host.vcpu[0, 0]["poll_wakes"] == 0


# Statistics


def test_counts_of_a_small_story():
    host = make_host(eoi="late", eoi_ns=50)
    bind_ipis(host, 0)
    send(host, 0, 1)
    send(host, 40, 1)  # coalesces
    # 100: delivered and masked. 160: EOI.
    send(host, 105, 1)
    # 160: kick. 260: delivered.
    do(host, 270, Op.UPCALL)
    # 320: EOI.
    send(host, 400, 1)
    do(host, 430, Op.CLEAR_PENDING, 1)
    # 500: nothing to deliver.
    host.advance(1000)
    assert host.port[0, 1] == {
        "sends": 4,
        "dropped": 0,
        "to_xen": 0,
        "raised": 4,
        "set": 3,
        "coalesced": 1,
        "masked": 1,
        "delivered": 2,
        "cleared": 1,
        "pending_ns": 100 + (260 - 105) + (430 - 400),
        "masked_ns": 160 - 105,
        "latency_sum": 100 + 155,
        "latency_max": 155,
        "longest_gap": 260 - 100,
    }
    assert host.vcpu[0, 0] == {
        "kicks": 3,
        "upcalls": 3,
        "spurious": 1,
        "ignored_upcalls": 1,
        "delivered": 2,
        "largest_batch": 1,
    }
    assert host.latencies == [100, 155]
    assert host.domain[0]["pending"] == 0


def test_the_largest_batch_is_that_of_a_whole_run_so_far():
    host = make_host(scan="lowest")
    bind_ipis(host, *[0] * 70)
    send(host, 0, 1, 2)
    send(host, 115, 70)  # another round of the same run
    host.advance(120)
    assert host.vcpu[0, 0]["largest_batch"] == 2
    host.advance(121)
    assert host.vcpu[0, 0]["largest_batch"] == 3
    assert host.vcpu[0, 0]["upcalls"] == 1
