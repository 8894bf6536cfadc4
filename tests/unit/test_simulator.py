import signal

import numpy as np
import pytest

import evtsim
from evtsim import EvtsimError, Guest, Host, Simulator, TraceError, simulator, workloads
from evtsim.kernels import shared


@pytest.fixture(scope="module")
def trace():
    return workloads.generate("channels", records=300_000, domains=20, vcpus=2, ports=20)


def snapshots_equal(a, b):
    return all(np.array_equal(table, b[name]) for name, table in a.items())


def test_call():
    sim = Simulator(Host.uniform(2, vcpus=2))
    assert sim.call("alloc_unbound", dom=1, remote_dom=0).port == 1
    bound = sim.call("bind_interdomain", dom=0, remote_dom=1, remote_port=1)
    assert bound.effects == evtsim.abi.Effect.SET | 8 | 16
    assert sim.call("bind_ipi", dom=1, vcpu=1).port == 2
    assert sim.call("status", dom=1, port=2).vcpu == 1
    assert sim.call("status", dom=0, target_dom=1, port=1).remote_dom == 0
    assert repr(sim.call("send", dom=1, port=77)) == "Answer(rc=-22 (EINVAL))"
    assert sim.records == 6


@pytest.mark.parametrize(
    ("op", "arguments", "words"),
    [
        ("sned", {}, "no operation 'sned'"),
        ("trace", {}, "no operation 'trace'"),
        ("send", {"dom": 0}, "port"),
        ("send", {"dom": 0, "port": 1, "colour": 2}, "colour"),
        ("send", {"dom": 0, "port": -1}, "field arg0"),
    ],
)
def test_a_wrong_call_is_explained(op, arguments, words):
    with pytest.raises(EvtsimError, match=words):
        Simulator(Host.uniform(1)).call(op, **arguments)


def test_time_goes_on(trace):
    sim = Simulator(trace.host)
    sim.apply(trace[:10])
    with pytest.raises(TraceError, match="begins before the last record applied"):
        sim.apply(trace[:10])
    assert sim.records == 10
    sim.apply(trace[10:20])
    assert sim.last_ts == int(trace.ts[19])


def test_outcomes_are_optional(trace):
    kept, dropped = Simulator(trace.host), Simulator(trace.host)
    assert len(kept.apply(trace)) == len(trace)
    assert dropped.apply(trace, outcomes=False) is None
    assert snapshots_equal(kept.state.snapshot(), dropped.state.snapshot())


def test_progress_is_reported_by_chunk(trace):
    seen = []
    Simulator(trace.host).apply(trace, progress=lambda *done: seen.append(done))
    assert seen == [(131072, 300000), (262144, 300000), (300000, 300000)]


def test_ctrl_c_leaves_a_simulator_that_can_go_on(trace):
    sim = Simulator(trace.host)

    def interrupt(done, total):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        sim.apply(trace, progress=interrupt)
    assert sim.records == 131072
    sim.apply(trace[sim.records :])
    whole = Simulator(trace.host)
    whole.apply(trace)
    assert snapshots_equal(sim.state.snapshot(), whole.state.snapshot())


def test_checkpoints(trace, tmp_path):
    sim = Simulator(trace.host)
    sim.apply(trace[:1000])
    sim.save(tmp_path / "state")
    loaded = Simulator.load(tmp_path / "state")
    assert loaded.host == sim.host
    assert loaded.records == 1000
    assert snapshots_equal(sim.state.snapshot(), loaded.state.snapshot())
    a, b = sim.apply(trace[1000:]), loaded.apply(trace[1000:])
    assert all(np.array_equal(column, getattr(b, name)) for name, column in a.fields())


def test_a_loaded_checkpoint_needs_no_other_kernels(trace, tmp_path):
    """A file's tables have lost their alignment; numba would take them for another type."""
    sim = Simulator(trace.host, stats="port")
    sim.apply(trace[:1000])
    sim.save(tmp_path / "state")
    loaded = Simulator.load(tmp_path / "state")
    for name, table in sim.state.tables._asdict().items():
        other = getattr(loaded.state.tables, name)
        if isinstance(table, np.ndarray):
            assert (other.dtype, other.flags.aligned) == (table.dtype, table.flags.aligned)
            assert other.dtype.isalignedstruct == table.dtype.isalignedstruct
    loaded.apply(trace[1000:])
    assert loaded.compile_seconds == 0


def test_a_grown_pool_is_kept(tmp_path):
    sim = Simulator(Host.uniform(1))
    b = evtsim.TraceBuilder(sim.host)
    for _ in range(4095):
        b.alloc_unbound(dom=0, remote_dom=0)
    sim.apply(b.trace())
    sim.save(tmp_path / "state")
    assert len(Simulator.load(tmp_path / "state").state.ports()) == 4096


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("errno_slots", None, 200),
        ("host", "bin_end", 2**63),
        ("port_fifo", "last_vcpu", 60_000),
        ("ports", "notify_vcpu", 60_000),
        ("virqs", None, 5_000),
        ("guest_vcpus", "next_word", 200),
        ("guest_vcpus", "eoi_first", 1),
        ("eois", "port", 100_000),
        ("queues", "head", 2**31),
    ],
)
def test_a_checkpoint_that_would_lead_astray_is_refused(tmp_path, table, field, value):
    """What kernels use as an index is looked at before they do, whatever the checksum says."""
    from evtsim import checkpoint

    host = Host.uniform(3, profile="xen-4.23", vcpus=2)
    guest = evtsim.Guest(eoi="late", eoi_ns=10**6)
    sim = Simulator(host, guest, "port")
    sim.call("bind_virq", dom=1, virq=0)
    sim.call("raise_virq", dom=1, virq=0, ts=5)
    sim.advance(10**4)  # handled, and waits for its EOI
    sim.save(tmp_path / "good")
    assert Simulator.load(tmp_path / "good").state.tables.eois["vcpu"].any()
    damaged = getattr(sim.state.tables, table)
    (damaged if field is None else damaged[field])[...] = value
    checkpoint.save(tmp_path / "bad", sim.state)
    with pytest.raises(EvtsimError, match="makes no sense"):
        Simulator.load(tmp_path / "bad")


def test_damaged_checkpoints_are_refused(tmp_path):
    sim = Simulator(Host.uniform(1))
    path = tmp_path / "state"
    sim.save(path)
    good = path.read_bytes()
    rng = np.random.default_rng(3)
    contents = [b"", b"PK", good[:-1], good[: len(good) // 2], rng.bytes(1000)]
    for position in rng.integers(0, len(good), 200):
        bad = bytearray(good)
        bad[position] ^= 1 << rng.integers(8)
        contents.append(bytes(bad))
    for content in contents:
        path.write_bytes(content)
        try:
            loaded = Simulator.load(path)
        except EvtsimError as error:
            assert str(path) in str(error)
            continue
        assert snapshots_equal(loaded.state.snapshot(), sim.state.snapshot())
        assert loaded.host == sim.host


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("ports", "peer", 2**31),
        ("ports", "remote_dom", 60000),
        ("ports", "remote_port", 2**31),
        ("ports", "peer_vcpu", 60000),
        ("domains", "nr_ports", 2**31),
        ("domains", "first_vcpu", 2**31),
        ("domains", "word_shift", 255),
        ("host", "buckets_used", 2**31),
        ("buckets", None, 2**31),
        ("virqs", None, 2**31),
    ],
)
def test_checkpoints_that_make_no_sense_are_refused(trace, tmp_path, table, field, value):
    sim = Simulator(trace.host)
    sim.apply(trace[:5000])
    array = getattr(sim.state.tables, table)
    array[... if field is None else field] = value
    sim.save(tmp_path / "state")
    with pytest.raises(EvtsimError, match=f"makes no sense \\(its table {table}\\)"):
        Simulator.load(tmp_path / "state")


def test_foreign_checkpoints_are_refused(tmp_path, trace):
    trace[:5].save(tmp_path / "t.arrow")
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    for path in (tmp_path / "t.arrow", tmp_path / "foreign.npz", tmp_path / "none", tmp_path):
        with pytest.raises(EvtsimError, match=str(path)):
            Simulator.load(path)


def test_a_run_does_not_change_when_the_simulator_goes_on(trace):
    sim = Simulator(trace.host, stats="domain")
    sim.apply(trace[:1000])
    run = sim.run()
    sim.apply(trace[1000:2000])
    assert run.records == 1000
    assert run.operations["records"].sum() == 1000
    assert "records" in run._repr_html_()


def test_the_summary_adds_up(trace):
    run = evtsim.replay(trace)
    totals = run.totals()
    rc, effects = run.outcomes.rc, run.outcomes.effects
    assert totals["errors"] == (rc < 0).sum()
    assert totals["delivered"] == run.outcomes.port[trace.op == 68].sum()
    for effect in evtsim.abi.Effect:
        assert totals[effect.name.lower()] == ((effects & effect) != 0).sum()
    assert run.operations["records"].sum() == len(trace)
    assert totals["duration_ns"] == int(trace.ts[-1] - trace.ts[0])
    assert run.summary()["metric"].tolist() == list(totals)


def test_numbers_without_a_name_are_counted_together():
    table = np.zeros(3, evtsim.RECORD_DTYPE)
    table["op"] = [15, 76, 65535]
    run = evtsim.replay(evtsim.Trace.from_records(table, Host.uniform(1)))
    assert run.operations["records"].tolist() == [3]
    assert run.operations["errno_name"].tolist() == ["ENOSYS"]
    assert [(row.op_name, row.records) for row in run.tally()] == [("other", 2), ("op_15", 1)]


def test_memory_of_many_domains():
    state = Simulator(Host.uniform(4000, vcpus=2)).state
    assert state.nbytes < 200e6
    assert len(state.ports()) == 4000 * 128


def test_domains_frame():
    sim = Simulator(Host.uniform(2))
    sim.call("alloc_unbound", dom=1, remote_dom=0)
    sim.call("bind_interdomain", dom=0, remote_dom=1, remote_port=1)
    frame = sim.state.domains()
    assert frame["in_use"].tolist() == [1, 1]
    assert frame["pending"].tolist() == [1, 0]
    sim.call("destroy_domain", dom=1)
    assert sim.state.domains()["dom"].tolist() == [0]


def test_wrong_arguments():
    with pytest.raises(EvtsimError, match="threads is 0"):
        Simulator(Host.uniform(1), threads=0)
    with pytest.raises(EvtsimError, match=r"evtsim\.Host"):
        Simulator("host")
    with pytest.raises(IndexError, match="domain 3"):
        Simulator(Host.uniform(1)).state.shared_info(3)


@pytest.mark.parametrize("stats", [None, "port"])
@pytest.mark.parametrize("guest", [None, Guest()])
@pytest.mark.parametrize("threads", [1, 2])
def test_preparing_changes_nothing_and_leaves_nothing_to_load(stats, guest, threads):
    trace = evtsim.workloads.generate("channels", records=40_000, domains=2)
    sim = Simulator(Host("xen-4.23", trace.host.domains), guest, stats, threads)
    before = sim.state.copy()
    sim.prepare()
    assert snapshots_equal(sim.state.snapshot(), before.snapshot())
    taken = sim.compile_seconds
    kernels = (simulator.replay, simulator.advance, shared.resolve, shared.sort, shared.act)
    loaded = [len(kernel.overloads) for kernel in (*kernels, shared.begin, shared.end)]
    sim.apply(trace)
    assert [len(kernel.overloads) for kernel in (*kernels, shared.begin, shared.end)] == loaded
    assert sim.compile_seconds == taken
