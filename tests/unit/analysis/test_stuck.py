"""Planted faults of each kind are found and named; a boot leaves none."""

import pytest

import evtsim
from evtsim import analysis, workloads
from evtsim.abi import Op


def connected(vcpus=2, word_bits=64):
    """Return a builder in which dom0 port 1 sends to dom1 port 1, and nothing is pending."""
    domain = evtsim.Domain(vcpus=vcpus, word_bits=word_bits)
    b = evtsim.TraceBuilder(evtsim.Host(domains=[evtsim.Domain(privileged=True), domain]))
    b.alloc_unbound(dom=1, remote_dom=0, ts=10)
    b.bind_interdomain(dom=0, remote_dom=1, remote_port=1)
    b.upcall(dom=0)  # the notification that binding brings
    return b


def found(b, **options):
    """Return the one channel that is stuck."""
    frame = analysis.stuck(evtsim.replay(b.trace(), **options))
    assert len(frame) == 1
    return frame.iloc[0]


def test_the_selector_bit_left_on_another_vcpu():
    b = connected()
    b.send(dom=0, port=1, ts=100)
    b.bind_vcpu(dom=1, port=1, target_vcpu=1, ts=200)
    row = found(b)
    assert (row["dom"], row["port"], row["vcpu"], row["category"]) == (1, 1, 1, "moved")
    assert "left on vcpu 0" in row["reason"]
    assert "bound to vcpu 1 while it was pending" in row["reason"]
    assert (row["since_ns"], row["waiting_ns"]) == (100, 100)
    assert (row["state_name"], row["remote_dom"], row["remote_port"]) == ("INTERDOMAIN", 0, 1)


def test_the_other_vcpu_has_taken_the_selector_bit():
    b = connected()
    b.send(dom=0, port=1, ts=100)
    b.bind_vcpu(dom=1, port=1, target_vcpu=1, ts=200)
    b.upcall(dom=1, vcpu=0, ts=300)
    b.send(dom=0, port=1, ts=400)  # coalesces, so it tells nobody either
    row = found(b)
    assert row["category"] == "lost"
    assert "in no vcpu's selector or queue" in row["reason"]
    assert row["coalesced"] == 1


def test_upcalls_masked_on_the_vcpu():
    b = connected()
    b.set_upcall_mask(dom=1, value=1)
    b.send(dom=0, port=1, ts=100)
    b.upcall(dom=1, ts=200)
    row = found(b)
    assert (row["category"], row["reason"]) == (
        "upcalls_masked",
        "vcpu 0 was told, and masks upcalls",
    )


def test_a_vcpu_that_was_told_and_never_ran():
    b = connected(word_bits=32)
    b.bind_ipi(dom=1, target_vcpu=1)
    b.send(dom=1, port=2, ts=100)
    row = found(b)
    assert (row["port"], row["vcpu"], row["category"]) == (2, 1, "never_woken")
    assert "vcpu 1 was told" in row["reason"]
    run = evtsim.replay(b.trace())
    assert len(analysis.stuck(run, older_than_ns=1)) == 0


def test_pending_behind_its_mask():
    b = connected()
    b.mask(dom=1, port=1)
    b.send(dom=0, port=1, ts=100)
    b.upcall(dom=1, ts=200)
    assert found(b)["category"] == "masked"


def test_unbound_with_sends_dropped():
    b = connected()
    b.close(dom=1, port=1, ts=50)
    for ts in (60, 70, 80):
        b.send(dom=0, port=1, ts=ts)
    row = found(b)
    assert (row["dom"], row["port"], row["category"]) == (0, 1, "no_peer")
    assert row["reason"] == "unbound: 3 sends were dropped"
    assert (row["dropped"], row["state_name"], row["remote_dom"]) == (3, "UNBOUND", 1)


def test_all_kinds_at_once_are_told_apart():
    b = evtsim.TraceBuilder(evtsim.Host.uniform(1, vcpus=4))
    for vcpu in (0, 1, 2, 3):
        b.bind_ipi(dom=0, target_vcpu=vcpu)
    b.alloc_unbound(dom=0, remote_dom=0)
    b.set_upcall_mask(dom=0, vcpu=1, value=1)
    b.mask(dom=0, port=3)
    for port in (1, 2, 3, 5):
        b.send(dom=0, port=port)
    stuck = analysis.stuck(evtsim.replay(b.trace()))
    assert stuck["port"].tolist() == [1, 2, 3, 5]
    assert stuck["category"].tolist() == ["never_woken", "upcalls_masked", "masked", "no_peer"]
    assert stuck["since_ns"].isna().tolist() == [False, False, False, True]


def fifo(*, pages=1, vcpus=2):
    """Return a builder in which dom0, under the FIFO ABI, has an IPI to vcpu 1 at port 1."""
    b = evtsim.TraceBuilder(evtsim.Host.uniform(1, vcpus=vcpus, profile="xen-4.23"))
    b.record(Op.INIT_CONTROL, dom=0, arg0=0)
    for _ in range(pages):
        b.record(Op.EXPAND_ARRAY, dom=0)
    b.bind_ipi(dom=0, target_vcpu=1)
    return b


def test_fifo_events_that_went_nowhere():
    b = fifo(pages=0)
    b.send(dom=0, port=1, ts=100)
    row = found(b)
    assert (row["category"], row["port"]) == ("no_event_word", 1)
    assert "saved until the event array has its word" in row["reason"]
    b = fifo()
    b.send(dom=0, port=1, ts=100)
    row = found(b)
    assert (row["category"], row["reason"]) == (
        "no_control_block",
        "vcpu 1 has no control block: 1 were lost",
    )
    b.record(Op.INIT_CONTROL, dom=0, arg0=1)
    assert len(analysis.stuck(evtsim.replay(b.trace()))) == 0


def test_fifo_events_in_a_queue_are_judged_by_its_vcpu():
    b = fifo()
    b.record(Op.INIT_CONTROL, dom=0, arg0=1)
    b.send(dom=0, port=1, ts=100)
    row = found(b)
    assert (row["category"], row["vcpu"]) == ("never_woken", 1)
    b.set_upcall_mask(dom=0, vcpu=1, value=1)
    assert found(b)["category"] == "upcalls_masked"
    assert len(analysis.stuck(evtsim.replay(b.trace()[:-1], guest=evtsim.Guest()))) == 0
    b = fifo()
    b.record(Op.INIT_CONTROL, dom=0, arg0=1)
    b.bind_virq(dom=0, virq=2, ts=50)
    b.raise_virq(dom=0, virq=2, ts=100)
    b.bind_vcpu(dom=0, port=2, target_vcpu=1, ts=110)
    row = found(b)  # the old vcpu's queue still has it, and that one delivers it
    assert (row["category"], row["vcpu"]) == ("never_woken", 1)
    assert "vcpu 0 was told" in row["reason"]
    b.upcall(dom=0, vcpu=0, ts=120)
    assert len(analysis.stuck(evtsim.replay(b.trace()))) == 0


def test_fifo_events_behind_a_mask():
    b = fifo()
    b.record(Op.INIT_CONTROL, dom=0, arg0=1)
    b.mask(dom=0, port=1)
    b.send(dom=0, port=1, ts=100)
    assert found(b)["category"] == "masked"


def test_what_a_guest_is_about_to_do_is_not_stuck():
    b = connected()
    b.send(dom=0, port=1, ts=100)
    trace = b.trace()
    assert analysis.stuck(evtsim.replay(trace))["category"].tolist() == ["never_woken"]
    guest = evtsim.Guest(wake_ns=50, handler_ns=20)
    assert len(analysis.stuck(evtsim.replay(trace, guest=guest))) == 0
    b.bind_ipi(dom=1, ts=110)
    b.send(dom=1, port=2, ts=120)
    b.status(dom=0, port=1, ts=155)  # while port 1 is handled, port 2 waits its turn
    run = evtsim.replay(b.trace(), guest=guest)
    assert run.state.ports()["pending"].sum() == 1
    assert len(analysis.stuck(run)) == 0


def test_a_port_that_waits_for_its_eoi_is_not_stuck():
    b = connected()
    b.send(dom=0, port=1, ts=100)
    b.send(dom=0, port=1, ts=160)
    guest = evtsim.Guest(wake_ns=50, handler_ns=0, eoi="late", eoi_ns=1_000)
    run = evtsim.replay(b.trace(), guest=guest)
    assert run.state.ports()[["pending", "mask"]].sum().tolist() == [1, 2]
    assert len(analysis.stuck(run)) == 0
    b.mask(dom=1, port=1, ts=170)  # cancels the EOI
    assert found(b, guest=guest)["category"] == "masked"


def test_a_guest_does_not_save_what_was_moved_or_masks_upcalls():
    b = connected()
    b.send(dom=0, port=1, ts=100)
    b.bind_vcpu(dom=1, port=1, target_vcpu=1, ts=110)
    assert found(b, guest=evtsim.Guest(wake_ns=50))["category"] == "moved"
    assert found(b, guest=evtsim.Guest(wake_ns=50), drain=True)["category"] == "lost"
    b = connected()
    b.set_upcall_mask(dom=1, value=1)
    b.send(dom=0, port=1, ts=100)
    assert found(b, guest=evtsim.Guest(), drain=True)["category"] == "upcalls_masked"


@pytest.mark.parametrize("guest", [None, evtsim.Guest(), evtsim.Guest(eoi="late", eoi_ns=5_000)])
@pytest.mark.parametrize("domains", [2, 16, 300])
def test_a_boot_leaves_nothing_stuck(guest, domains):
    deliver = "trace" if guest is None else "model"
    trace = workloads.generate("boot", domains=domains, deliver=deliver)
    run = evtsim.replay(trace, guest=guest, drain=guest is not None)
    assert run.totals()["delivered"] > 0
    assert len(analysis.stuck(run)) == 0
