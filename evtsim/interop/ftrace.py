"""Linux's ftrace text of KVM's Xen events, as observations.

The lines are those of /sys/kernel/tracing/trace, trace_pipe or ``trace-cmd report``; the events'
own text is said by arch/x86/kvm/trace.h (kvm_xen_hypercall, kvm_exit, kvm_inj_virq).
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from evtsim.errors import EvtsimError, reason
from evtsim.interop.observations import KINDS, frame_of
from evtsim.interop.xentrace import EVENT_CHANNEL_OP, UPCALL_VECTOR

if TYPE_CHECKING:
    import pandas as pd

BLOCK = 1 << 24

NS = 10**9

# task-pid, the thread group if it was recorded, CPU, flags, seconds: event: text
HEAD = (
    rb"^[ \t]*([^\n]*?)-(\d+)[ \t]+(?:\([ \t]*(-+|\d+)\)[ \t]*)?\[(\d+)\][ \t]+(?:\S+[ \t]+)?"
    rb"(\d+)\.(\d+):[ \t]+"
)
EVENT = re.compile(
    HEAD + rb"(?:kvm_exit:([^\n]*)|kvm_inj_virq:([^\n]*)|kvm_xen_hypercall:([^\n]*))"
    rb"|^CPU:(\d+) \[(?:LOST )?(\d+) EVENTS",
    re.MULTILINE,
)
ANY_EVENT = re.compile(HEAD + rb"\w+:", re.MULTILINE)
EXIT = re.compile(rb"\bvcpu (\d+)")
CALL = re.compile(rb"\bnr 0x([0-9a-f]+) a0 0x([0-9a-f]+)")
VECTOR = re.compile(rb"\b(?:IRQ 0x([0-9a-f]+)|irq (\d+))")
THREAD = re.compile(rb"CPU (\d+)/KVM")
"""What QEMU calls a vcpu's thread."""


def read(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read an ftrace log of KVM hosts that offer Xen's hypercalls to their guests.

    Parameters
    ----------
    path : path-like
        Text, or with the suffix ``.gz`` compressed text.

    Returns
    -------
    DataFrame
        As :func:`evtsim.interop.xentrace.read`, with one column more, pid (int32), the vcpu's
        thread. dom is the thread group, which is the VM's process, where the log has it (option
        record-tgid), else -1. vcpu is that of the pid's kvm_exit before, else that of the thread's
        name (``CPU 3/KVM``), else -1. ts_ns counts from the first event taken.

    Raises
    ------
    EvtsimError
        The file cannot be read, has no line of ftrace's, or a line does not make sense.
    """
    name = os.fspath(path)
    reader = _Reader(name)
    recognized = False
    try:
        for block in _blocks(name):
            found = reader.take(block)
            recognized = recognized or found or ANY_EVENT.search(block) is not None
    except OSError as error:
        raise EvtsimError(f"{name}: {reason(error)}") from None
    except (EOFError, zlib.error):
        raise EvtsimError(f"{name}: not a whole gzip file") from None
    if not recognized:
        raise EvtsimError(
            f"{name}: not an ftrace log (expected lines like "
            "'CPU 0/KVM-1234 [001] d... 5.123456: kvm_xen_hypercall: nr 0x20 a0 0x4 …')"
        )
    return reader.frame()


def _blocks(name: str) -> Iterator[bytes]:
    """Read whole lines block by block."""
    opener = gzip.open if name.endswith(".gz") else open
    with cast(BinaryIO, opener(name, "rb")) as stream:
        while block := stream.read(BLOCK):
            yield block + stream.readline()


class _Reader:
    """Collects rows, and remembers which vcpu each thread runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: list[tuple[int, int, int, int, int, int, int]] = []
        self.vcpus: dict[bytes, int] = {}
        self.groups: dict[bytes, int] = {}
        self.lost: list[tuple[int, int]] = []
        self.last: dict[int, int] = {}

    def take(self, block: bytes) -> bool:
        """Take the events of some lines; whether there were any."""
        matches = EVENT.findall(block)
        for task, pid, group, cpu, seconds, digits, ended, injected, called, *lost in matches:
            if lost[0]:
                self.lost.append((int(lost[0]), int(lost[1])))
                continue
            if group and group[:1] != b"-":
                self.groups[pid] = int(group)
            if pid not in self.vcpus:
                named = THREAD.search(task)
                self.vcpus[pid] = int(named[1]) if named else -1
            pcpu = int(cpu)
            ts = int(seconds) * NS + int(digits[:9].ljust(9, b"0"))
            if self.lost:
                self._gap(pcpu, ts)
            self.last[pcpu] = ts
            if ended:
                said = EXIT.search(ended)
                if said:
                    self.vcpus[pid] = int(said[1])
            elif called:
                self._call(pid, pcpu, ts, called)
            else:
                self._injection(pid, pcpu, ts, injected)
        return bool(matches)

    def _add(self, pid: bytes, pcpu: int, ts: int, kind: str, value: int) -> None:
        dom, vcpu = self.groups.get(pid, -1), self.vcpus[pid]
        self.rows.append((ts, pcpu, dom, vcpu, KINDS.index(kind), value, int(pid)))

    def _call(self, pid: bytes, pcpu: int, ts: int, text: bytes) -> None:
        call = CALL.search(text)
        if call is None:
            line = text.decode(errors="replace").strip()
            raise EvtsimError(
                f"{self.name}: at {ts / NS:.6f} s: kvm_xen_hypercall: {line!r} "
                "(expected nr 0x… a0 0x…)"
            )
        number = int(call[1], 16)
        if number == EVENT_CHANNEL_OP:
            # The sub-operation is an int in a register of 64 bits.
            self._add(pid, pcpu, ts, "event_channel_op", int(call[2], 16) & 0xFFFFFFFF)
        else:
            self._add(pid, pcpu, ts, "hypercall", number & (1 << 63) - 1)

    def _injection(self, pid: bytes, pcpu: int, ts: int, text: bytes) -> None:
        said = VECTOR.search(text)
        if said:
            vector = int(said[1], 16) if said[1] else int(said[2])
            kind = "upcall" if vector == UPCALL_VECTOR else "interrupt"
            self._add(pid, pcpu, ts, kind, vector)

    def _gap(self, pcpu: int, ts: int) -> None:
        """Put what a CPU lost between its event before and this one."""
        for cpu, count in [gap for gap in self.lost if gap[0] == pcpu]:
            for kind, when in (("lost", self.last.get(cpu, ts)), ("lost_end", ts)):
                self.rows.append((when, cpu, -1, -1, KINDS.index(kind), count, -1))
        self.lost = [gap for gap in self.lost if gap[0] != pcpu]

    def frame(self) -> pd.DataFrame:
        """Return everything by time."""
        try:
            table = np.array(self.rows, np.int64).reshape(-1, 7)
        except OverflowError:
            raise EvtsimError(
                f"{self.name}: a number of more than 63 bits (expected numbers that ftrace writes)"
            ) from None
        table = table[np.argsort(table[:, 0], kind="stable")]
        ts, pcpu, dom, vcpu, kind, value, pid = table.T
        frame: pd.DataFrame = frame_of(ts - ts[:1].sum(), pcpu, dom, vcpu, kind, value)
        return frame.assign(pid=pid.astype(np.int32))
