import numpy as np
import pandas as pd
import pytest

import evtsim
from evtsim import EvtsimError, Host, HostError, Trace, TraceBuilder, TraceError, abi


@pytest.fixture
def host():
    return Host.uniform(3)


def records(*rows):
    return np.array(list(rows), evtsim.RECORD_DTYPE)


def send(ts, dom=0, port=1):
    return (ts, dom, 0, 4, 0, port, 0)


def test_columns_are_read_only_and_typed(host):
    trace = Trace.from_records(records(send(1), send(2)), host)
    for name in evtsim.RECORD_DTYPE.names:
        column = getattr(trace, name)
        assert column.dtype == evtsim.RECORD_DTYPE[name]
        assert column.flags.c_contiguous
        assert not column.flags.writeable


def test_the_users_array_is_copied(host):
    table = records(send(1))
    trace = Trace.from_records(table, host)
    table["ts"] = 9
    assert trace.ts.tolist() == [1]


def test_from_frame_takes_names_and_foreign_columns(host):
    frame = pd.DataFrame(
        {
            "when": [1.0, 2.0],
            "dom": [0, 1],
            "vcpu": 0,
            "op": ["send", "op_122"],
            "flags": 0,
            "arg0": [3, 4],
            "arg1": 0,
            "comment": ["a", "b"],
        }
    )
    trace = Trace.from_frame(frame, host, columns={"ts": "when"})
    assert trace.ts.tolist() == [1, 2]
    assert trace.op.tolist() == [4, 122]


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("ts", [1, -2], "record 1, field ts: value does not fit: -2"),
        ("arg0", [0, 2**32], "record 1, field arg0: value does not fit: 4294967296"),
        ("dom", [0.5, 1], "record 0, field dom: value does not fit: 0.5"),
        ("dom", [0, float("nan")], "record 1, field dom"),
        ("op", ["send", "sned"], "record 1, field op: not a value of this field: 'sned'"),
        ("vcpu", [None, 0], "record 0, field vcpu"),
    ],
)
def test_from_frame_names_the_value_that_does_not_fit(host, column, values, words):
    frame = pd.DataFrame({name: [0, 0] for name in evtsim.RECORD_DTYPE.names})
    frame[column] = values
    with pytest.raises(TraceError) as caught:
        Trace.from_frame(frame, host)
    assert words in str(caught.value)
    assert caught.value.field == column


def test_missing_columns_are_named(host):
    with pytest.raises(TraceError, match="no column dom, vcpu"):
        Trace.from_frame(pd.DataFrame({n: [0] for n in ("ts", "op", "arg0")}), host)
    with pytest.raises(TraceError, match="field arg0: no such column: 'port'"):
        Trace.from_frame(pd.DataFrame({"ts": [0]}), host, columns={"arg0": "port"})


def test_flags_and_arguments_that_no_operation_takes_may_be_missing(host):
    frame = pd.DataFrame({"ts": [1, 2], "dom": 0, "vcpu": 0, "op": ["upcall", "op_122"]})
    trace = Trace.from_frame(frame, host)
    for name in ("flags", "arg0", "arg1"):
        assert getattr(trace, name).tolist() == [0, 0]
        assert getattr(trace, name).dtype == evtsim.RECORD_DTYPE[name]
    sends = frame.assign(op="send", port=[3, 4])
    assert Trace.from_frame(sends, host, columns={"arg0": "port"}).arg0.tolist() == [3, 4]
    with pytest.raises(TraceError, match=r"record 0, field arg0: .*send takes port"):
        Trace.from_frame(sends, host)
    binds = frame.assign(op=["upcall", "bind_virq"], arg0=0)
    with pytest.raises(TraceError, match=r"record 1, field arg1: .*bind_virq takes vcpu"):
        Trace.from_frame(binds, host)
    array = np.zeros(2, [(n, evtsim.RECORD_DTYPE[n]) for n in ("ts", "dom", "vcpu", "op", "arg0")])
    array["op"] = evtsim.abi.Op.SEND
    assert Trace.from_records(array, host).arg1.tolist() == [0, 0]


def test_slices_keep_host_recorded_and_place(host):
    recorded = evtsim.Outcomes(rc=np.array([0, -22, 0], np.int32))
    trace = Trace.from_records(records(send(1), send(2), send(3)), host, recorded)
    part = trace[1:]
    assert len(part) == 2
    assert part.first == 1
    assert part.ts.tolist() == [2, 3]
    assert part.recorded.rc.tolist() == [-22, 0]
    assert part.recorded.port is None
    assert part.host == host
    assert len(trace[2:1]) == 0
    assert trace[2:1].ts.tolist() == []
    with pytest.raises(ValueError, match="step 1"):
        trace[::2]


def test_concat_and_merge(host):
    a = Trace.from_records(records(send(1, port=1), send(5, port=2)), host)
    b = Trace.from_records(records(send(5, port=3), send(7, port=4)), host)
    assert Trace.concat([a, b]).arg0.tolist() == [1, 2, 3, 4]
    assert Trace.merge([b, a]).arg0.tolist() == [1, 3, 2, 4]
    with pytest.raises(TraceError, match="record 2, field ts: time runs backwards: 1"):
        Trace.concat([b, a])
    with pytest.raises(HostError, match="different hosts"):
        Trace.merge([a, Trace.from_records(records(send(1)), Host.uniform(2))])


def test_slices_remember_where_they_began(host, tmp_path):
    recorded = evtsim.Outcomes(rc=np.array([0, -22, 0, 0], np.int32))
    trace = Trace.from_records(records(*(send(i) for i in range(4))), host, recorded)
    for suffix in (".arrow", ".parquet", ".csv"):
        trace[2:].save(tmp_path / f"part{suffix}")
        with pytest.raises(EvtsimError, match="from record 2 on"):
            evtsim.verify(Trace.load(tmp_path / f"part{suffix}"))
    joined = Trace.concat([trace[:2], trace[2:]])
    assert joined.recorded.rc.tolist() == [0, -22, 0, 0]
    assert Trace.concat([trace[:1], trace[2:]]).recorded is None
    with pytest.raises(EvtsimError, match="from record 1 on"):
        evtsim.verify(Trace.concat([trace[1:2], trace[2:]]))


def test_concat_keeps_the_recorded_fields_that_all_have(host, tmp_path):
    both = evtsim.Outcomes(rc=np.array([0], np.int32), port=np.array([0], np.uint32))
    some = evtsim.Outcomes(rc=np.array([-22], np.int32))
    parts = [
        Trace.from_records(records(send(i)), host, recorded)
        for i, recorded in enumerate([both, some])
    ]
    joined = Trace.concat(parts)
    assert dict(joined.recorded.fields()).keys() == {"rc"}
    joined.save(tmp_path / "t.arrow")
    assert Trace.load(tmp_path / "t.arrow").recorded.rc.tolist() == [0, -22]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_floats_just_beyond_a_column_do_not_fit(host, dtype):
    for name, value in (("ts", 2.0**64), ("arg0", 2.0**32), ("dom", 2.0**16)):
        table = np.zeros(1, [(field, dtype) for field in evtsim.RECORD_DTYPE.names])
        with np.errstate(over="ignore"):
            table[name] = value
        with pytest.raises(TraceError, match=f"record 0, field {name}"):
            Trace.from_records(table, host)


@pytest.mark.parametrize(
    "make",
    [
        lambda host: Trace.from_records([1, 2], host),
        lambda host: Trace.from_records(records(send(1)), "host"),
        lambda host: Trace.from_records(records(send(1)), host, recorded=[0]),
        lambda host: Trace.from_records(records(send(1)), host, meta={"a": {1}}),
        lambda host: evtsim.Simulator(host).apply("t.arrow"),
        lambda host: evtsim.verify("t.arrow"),
        lambda host: Host(domains=[{"vcpus": 1}]),
        lambda host: Host(domains=5),
        lambda host: evtsim.TraceBuilder(host).record(4.5, dom=0),
        lambda host: evtsim.workloads.generate("channels", records=1.5),
        lambda host: evtsim.workloads.generate("channels", rate="x"),
    ],
)
def test_things_of_the_wrong_kind_are_refused(host, make):
    with pytest.raises(EvtsimError):
        make(host)


def test_digest_is_of_records_and_host(host):
    trace = Trace.from_records(records(send(1), send(2)), host, meta={"a": 1})
    same = Trace.concat([trace[:1], trace[1:]])
    assert same.digest() == trace.digest()
    assert Trace.from_records(records(send(1), send(3)), host).digest() != trace.digest()
    assert Trace.from_records(records(send(1), send(2)), Host.uniform(2)).digest() != trace.digest()


def test_digest_stays_what_it_is(host):
    """Files and papers quote digests: a change of this value is a change of format."""
    trace = Trace.from_records(records(send(1), send(2)), host)
    assert trace.digest() == "41560bf7660ed146f9a6419f9dca134502369841c6bcc4afb5fc1471ee546a57"


def test_frame_has_names_beside_numbers(host):
    recorded = evtsim.Outcomes(rc=np.array([0], np.int32))
    trace = Trace.from_records(records((1, 0, 0, 122, 0, 0, 0)), host, recorded)
    frame = trace.frame()
    assert list(frame) == ["ts", "dom", "vcpu", "op", "op_name", "flags", "arg0", "arg1", "out_rc"]
    assert frame["op_name"].tolist() == ["op_122"]
    assert isinstance(frame["op_name"].dtype, pd.CategoricalDtype)
    assert "op_122" in trace._repr_html_()


def test_a_trace_without_a_host_says_how_to_get_one():
    trace = Trace.from_records(records(send(1)))
    with pytest.raises(HostError, match=r"Host\.infer"):
        evtsim.replay(trace)
    assert evtsim.replay(trace, Host.infer(trace)).records == 1


def test_validate_notes_what_will_be_refused(host):
    trace = Trace.from_records(
        records(
            (0, 9, 0, 4, 0, 0, 0),  # no such domain
            (0, 0, 1, 4, 0, 0, 0),  # no such vcpu
            (0, 0, 0, 63, 0, 0, 0),  # no such operation
            (0, 0, 0, 4, 0, 4096, 0),  # beyond the limit
            (0, 0, 0, 1, 0, 24, 0),  # no such VIRQ
            (0, 0, 0, 2, 0, 0, 0),  # no such PIRQ
            (0, 0, 0, 7, 0, 1, 0),  # no such vcpu named
            (0, 0, 0, 6, 2, 0, 0),  # the result cannot be copied out
        ),
        host,
    )
    result = trace.validate()
    assert result
    errnos = ["ESRCH", "ENOENT", "ENOSYS", "EINVAL", "EINVAL", "EINVAL", "ENOENT", "EFAULT"]
    assert [note.errno for note in result.notes] == errnos
    assert [note.first for note in result.notes] == list(range(8))
    rc = evtsim.replay(trace).outcomes.rc
    assert [evtsim.abi.errno_name(int(value)) for value in rc] == errnos


def test_validate_knows_the_profile():
    host = evtsim.Host.uniform(2, profile="xen-4.23")
    b = evtsim.TraceBuilder(host)
    b.init_control(dom=1)
    b.send(dom=1, port=5000)
    b.send(dom=1, port=131_072)
    result = b.trace().validate()
    assert [(note.errno, note.first) for note in result.notes] == [("EINVAL", 2)]


def test_validate_reports_errors(host):
    backwards = Trace.from_records(records(send(2), send(1)), host).validate()
    assert not backwards
    assert "record 1, field ts" in str(backwards.errors[0])
    assert not Trace.from_records(records(send(2))).validate()


def test_a_builder_checks_what_it_is_given(host):
    b = evtsim.TraceBuilder(host)
    b.send(dom=1, port=2, ts=5)
    with pytest.raises(TraceError, match="record 1, field ts: time runs backwards: 4"):
        b.send(dom=1, port=2, ts=4)
    with pytest.raises(TraceError, match="field arg0: value does not fit: -1"):
        b.send(dom=1, port=-1)
    b.upcall(dom=1, vcpu=1)
    assert b.trace().ts.tolist() == [5, 5]


def test_every_operation_has_a_builder():
    for name in evtsim.abi.OP_NUMBERS:
        assert hasattr(evtsim.TraceBuilder, name)


def test_verify(host):
    b = evtsim.TraceBuilder(host)
    b.alloc_unbound(dom=1, remote_dom=0)
    b.send(dom=1, port=1)
    b.send(dom=1, port=9)
    trace = b.trace()
    good = evtsim.replay(trace).outcomes
    check = evtsim.verify(Trace.from_records(_table(trace), host, good))
    assert check
    assert (check.agreed, check.total, check.first) == (3, 3, None)
    wrong = evtsim.Outcomes(rc=np.array([0, 0, -2], np.int32), port=good.port)
    check = evtsim.verify(Trace.from_records(_table(trace), host, wrong))
    assert not check
    assert check.first == 2
    assert check.by_op == {"send": (1, 2), "alloc_unbound": (0, 1)}
    assert check.by_field == {"rc": 1, "port": 0}
    assert check.frame()["simulated_rc"].tolist() == [0, 0, -22]
    assert "1 of 3 records differ" in str(check)
    assert "differ" in check._repr_html_()


def _table(trace):
    table = np.zeros(len(trace), evtsim.RECORD_DTYPE)
    for name in evtsim.RECORD_DTYPE.names:
        table[name] = getattr(trace, name)
    return table


def test_verify_needs_recorded_outcomes_from_the_start(host):
    trace = Trace.from_records(records(send(1), send(2)), host)
    with pytest.raises(EvtsimError, match="no recorded outcomes"):
        evtsim.verify(trace)
    with pytest.raises(EvtsimError, match="from record 1 on"):
        evtsim.verify(trace[1:])


def test_a_result_that_cannot_be_copied_out_is_noted():
    builder = TraceBuilder(Host.uniform(2, profile="xen-4.23"))
    builder.init_control(dom=1, flags=abi.Fault.OUT)
    trace = builder.trace()
    assert evtsim.replay(trace).outcomes.rc[0] == -abi.Errno.EFAULT
    assert [note.errno for note in trace.validate().notes] == ["EFAULT"]


def test_a_control_block_asks_for_its_vcpu():
    builder = TraceBuilder(Host.uniform(2, vcpus=4, profile="xen-4.23"))
    builder.init_control(dom=1, target_vcpu=3)
    assert Host.infer(builder.trace()).domains["vcpus"].tolist() == [1, 4]


def test_frames_are_copies_both_ways(host):
    trace = Trace.from_records(records(send(1), send(2)), host)
    frame = trace.frame()
    frame.loc[1, "arg0"] = 9
    made = Trace.from_frame(frame, host)
    frame.loc[1, "arg0"] = 8
    assert (trace.arg0[1], made.arg0[1]) == (1, 9)
    run = evtsim.replay(trace)
    outcomes = run.outcomes.frame()
    outcomes["rc"] = 0
    outcomes.loc[0, "effects"] = 1
    assert run.outcomes.rc.tolist() == [-22, -22]
    assert run.outcomes.effects.tolist() == [0, 0]
