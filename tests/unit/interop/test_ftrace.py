import gzip

import pytest

from evtsim import EvtsimError
from evtsim.interop import ftrace, observations

LOG = """\
# tracer: nop
#
# entries-in-buffer/entries-written: 9/9   #P:4
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
       CPU 0/KVM-1234    [003] d..1. 12345.678901: kvm_exit: vcpu 0 reason VMCALL rip 0xffff info1 0x0
       CPU 0/KVM-1234    [003] ..... 12345.678902: kvm_xen_hypercall: cpl 0 nr 0x20 a0 0x4 a1 0xf a2 0x0 a3 0x0 a4 0x0 a5 0
            qemu-4321    [001] ..... 12345.678903: kvm_exit: reason VMCALL rip 0xffff info 0 0
            qemu-4321    [001] ..... 12345.678905: kvm_xen_hypercall: nr 0x20 a0 0x9 a1 0xf a2 0x0 a3 0x0 a4 0x0 a5 0
     my-task -5-77       [002] ..... 12345.678906: sched_switch: prev_comm=x kvm_xen_hypercall: no
     worker 1-99         [001] d..1. 12345.678907: kvm_exit: vcpu 5 reason VMCALL
     worker 1-99         [001] ..... 12345.678908: kvm_xen_hypercall: cpl 0 nr 0x1d a0 0x3 a1 0xf a2 0x0 a3 0x0 a4 0x0 a5 0
     worker 1-99         [001] d..1. 12345.678910: kvm_inj_virq: IRQ 0xf3
     worker 1-99         [001] d..1. 12345.678911: kvm_inj_virq: irq 236
"""  # noqa: E501


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trace.txt"


def rows_of(frame):
    names = ["ts_ns", "pcpu", "dom", "vcpu", "kind", "value", "pid"]
    return [tuple(row) for row in frame[names].astype({"kind": str}).to_numpy().tolist()]


def test_calls_get_the_vcpu_of_the_exit_before_or_of_the_threads_name(path):
    path.write_text(LOG)
    frame = ftrace.read(path)
    assert list(frame) == [*observations.COLUMNS, "pid"]
    assert rows_of(frame) == [
        (0, 3, -1, 0, "event_channel_op", 4, 1234),
        (3000, 1, -1, -1, "event_channel_op", 9, 4321),
        (6000, 1, -1, 5, "hypercall", 0x1D, 99),
        (8000, 1, -1, 5, "upcall", 0xF3, 99),
        (9000, 1, -1, 5, "interrupt", 236, 99),
    ]
    table = observations.by_operation(frame)
    assert table[["vcpu", "op_name", "calls"]].to_numpy().tolist() == [
        [-1, "unmask", 1],
        [0, "send", 1],
    ]


def test_trace_cmds_lines_and_thread_groups_are_read(path):
    call = "kvm_xen_hypercall: nr 0x20 a0 0x4 a1 0xf a2 0x0 a3 0x0 a4 0x0 a5 0"
    path.write_text(
        f"cpus=4\n     CPU 2/KVM-50    [000]  7.000000001: {call}\n"
        f"     CPU 1/KVM-51 (   40) [000] d... 7.000002: {call}\n"
        f"     CPU 1/KVM-52 (-----) [000] d... 7.000003: {call}\n"
    )
    frame = ftrace.read(path)
    assert frame["ts_ns"].tolist() == [0, 1999, 2999]
    assert frame["vcpu"].tolist() == [2, 1, 1]
    assert frame["dom"].tolist() == [-1, 40, -1]


def test_lost_events_are_gaps(path):
    lines = LOG.splitlines()
    path.write_text("\n".join([*lines[:6], "CPU:1 [LOST 17 EVENTS]", *lines[6:10],
                               "CPU:1 [3 EVENTS DROPPED]", *lines[10:]]))  # fmt: skip
    gaps = observations.gaps(ftrace.read(path))
    # The first gap has no event of its CPU before it; the second lies between two of them.
    assert gaps[["pcpu", "start_ns", "end_ns", "records"]].to_numpy().tolist() == [
        [1, 1000, 1000, 17],
        [1, 5000, 6000, 3],
    ]


def test_blocks_do_not_cut_lines(path, monkeypatch):
    path.write_text(LOG)
    whole = rows_of(ftrace.read(path))
    for size in (1, 7, 200):
        monkeypatch.setattr(ftrace, "BLOCK", size)
        assert rows_of(ftrace.read(path)) == whole


def test_compressed_logs_are_read(tmp_path, path):
    path.write_text(LOG)
    packed = tmp_path / "trace.txt.gz"
    packed.write_bytes(gzip.compress(LOG.encode()))
    assert rows_of(ftrace.read(packed)) == rows_of(ftrace.read(path))
    packed.write_bytes(gzip.compress(LOG.encode())[:-20])
    with pytest.raises(EvtsimError, match="not a whole gzip file"):
        ftrace.read(packed)
    packed.write_text(LOG)
    with pytest.raises(EvtsimError, match=r"trace\.txt\.gz"):
        ftrace.read(packed)


def test_a_log_without_xens_calls_is_empty(path):
    path.write_text("      bash-1   [000] d... 1.000001: sched_wakeup: comm=x\n")
    frame = ftrace.read(path)
    assert len(frame) == 0
    assert len(observations.by_operation(frame)) == 0


@pytest.mark.parametrize("text", ["", "hello\n", "ts,dom,vcpu\n1,2,3\n"])
def test_what_is_no_ftrace_log_is_refused(path, text):
    path.write_text(text)
    with pytest.raises(EvtsimError, match="not an ftrace log"):
        ftrace.read(path)


def test_a_call_that_makes_no_sense_is_named(path):
    path.write_text("  CPU 0/KVM-1   [000] d... 1.000001: kvm_xen_hypercall: nr what\n")
    with pytest.raises(EvtsimError, match=r"at 1.000001 s: kvm_xen_hypercall: 'nr what'"):
        ftrace.read(path)
    with pytest.raises(EvtsimError, match="no such file"):
        ftrace.read(path.parent / "none")
