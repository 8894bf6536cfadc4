"""xentrace's binary files, as observations.

What the words mean is said by Xen's public/trace.h and xen/common/trace.c; that a file consists of
one window after the other, each of one physical CPU, by tools/xentrace/xentrace.c.
"""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from evtsim._files import naming
from evtsim._jit import announced
from evtsim.errors import ArgumentError, EvtsimError
from evtsim.interop import _kernels
from evtsim.interop.observations import IDLE, KINDS, RUNNING, frame_of

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.dtypes import Array

EVENT_CHANNEL_OP = 32
UPCALL_VECTOR = 0xF3
"""HYPERVISOR_CALLBACK_VECTOR: by which Linux takes event-channel upcalls."""

LOST, PADDING = 0x1F001, 0x1F002
PV_HYPERCALL, PV_SUBCALL, VMMCALL = 0x20100D, 0x20200E, 0x82012
INJECTED = 0x82004
RUNSTATE, RUNSTATE_MASK = 0x21001, 0x0FFFF00F
SWITCH = 0x2800A
NAMING = {0x28004: "wake", 0x28005: "yield", 0x28006: "block", 0x28003: "sleep"}
"""Records that say in their words which vcpu they are about."""

DOMAINS = {0x41001: "domain_added", 0x41002: "domain_removed"}
IRQ = 0x802008

SLOWEST, FASTEST = 10**6, 18 * 10**9
"""Clock rates for which ns fit into 64 bits on the way."""


class Records(NamedTuple):
    """Records ordered by CPU, as they came within each."""

    words: Array  # uint32, the file
    at: Array  # int64, index of the first word after header and TSC
    length: Array  # int64, words from there on
    event: Array  # int64
    tsc: Array  # uint64
    cpu: Array  # int32
    position: Array  # int64, number in the file

    def word(self, k: int) -> Array:
        """Return word k of every record as int64; 0 where a record is shorter."""
        there = self.length > k
        return np.where(there, self.words[np.where(there, self.at + k, 0)], 0).astype(np.int64)


def read(path: str | os.PathLike[str], hz: float = 2.4e9, *, idle: bool = False) -> pd.DataFrame:
    """Read a file that xentrace wrote.

    Parameters
    ----------
    path : path-like
    hz : float
        Clock rate of the time stamp counter, which the file does not tell. 1e6 to 18e9.
    idle : bool
        Whether to keep what the idle domain did. Gaps are kept anyway.

    Returns
    -------
    DataFrame
        By time: ts_ns (int64, since the file's first time stamp), pcpu, dom, vcpu (int32; -1: not
        known yet), kind (categorical, observations.KINDS), value (int64).
        docs/your-own-data.md says what value is.

    Raises
    ------
    EvtsimError
        The file cannot be read, is not xentrace's or is damaged.

    Warns
    -----
    UserWarning
        The file ends in mid-record; what is whole is returned.
    """
    rate = _clock(hz)
    words = _words(path)
    starts, cpus = np.empty(len(words), np.int64), np.empty(len(words), np.int32)
    with announced():
        count, at, end = _kernels.walk_xentrace(words, starts, cpus)
    if end not in (_kernels.WHOLE, _kernels.CUT):
        raise EvtsimError(f"{os.fspath(path)}: {_fault(words, at, end)}")
    if end == _kernels.CUT or Path(path).stat().st_size % 4:
        warnings.warn(
            f"{os.fspath(path)}: ends in mid-record; the first {count:,} records are whole",
            stacklevel=2,
        )
    records = _ordered(words, starts[:count], cpus[:count], path)
    dom, vcpu = _running(records)
    return _frame(records, dom, vcpu, rate, idle, path)


def _clock(hz: float) -> int:
    number = isinstance(hz, (int, float, np.integer, np.floating)) and not isinstance(hz, bool)
    if not number or not math.isfinite(hz) or not SLOWEST <= hz <= FASTEST:
        raise ArgumentError("hz", hz, f"{SLOWEST:,} to {FASTEST:,}")
    return round(hz)


def _words(path: str | os.PathLike[str]) -> Array:
    """Read the file's words, in this machine's byte order, read-only."""
    name = os.fspath(path)
    with naming(name):
        words = np.fromfile(name, np.uint32)
    if len(words) and words[0] == _kernels.WINDOW.byteswap():
        words = words.byteswap()
    if not len(words) or words[0] != _kernels.WINDOW:
        found = f"{int(words[0]):#010x}" if len(words) else "nothing"
        raise EvtsimError(
            f"{name}: not a xentrace file: begins with {found} (expected a CPU's window, "
            f"{int(_kernels.WINDOW):#010x})"
        )
    words.flags.writeable = False
    return words


def _fault(words: Array, at: int, end: int) -> str:
    """Say what is wrong with the word at which a walk ended."""
    what = {
        _kernels.FOREIGN: f"{int(words[at]):#010x} (expected a CPU's window, "
        f"{int(_kernels.WINDOW):#010x})",
        _kernels.SPILLED: f"a record {int(words[at]):#010x} goes beyond its window (expected whole "
        "records in it)",
        _kernels.MISSHAPEN: "a window of an impossible CPU or size (expected a CPU below "
        f"{_kernels.MAX_CPUS:,} and a multiple of 4 bytes)",
    }
    return f"damaged at byte {4 * at:,}: {what[end]}"


def _ordered(words: Array, starts: Array, cpus: Array, path: str | os.PathLike[str]) -> Records:
    """Take records apart, CPU by CPU, and carry time stamps on to records without one."""
    order = np.argsort(cpus, kind="stable")
    start, cpu = starts[order], cpus[order]
    header = words[start]
    event = (header & 0x0FFFFFFF).astype(np.int64)
    stamped = (header >> 31).astype(np.int64)
    at = start + 1 + 2 * stamped
    known = (stamped != 0) & (event != PADDING)
    low, high = (words[np.where(known, start + k, 0)].astype(np.uint64) for k in (1, 2))
    tsc = low | high << np.uint64(32)
    told = np.flatnonzero(known)
    backwards = (cpu[told[1:]] == cpu[told[:-1]]) & (tsc[told[1:]] < tsc[told[:-1]])
    if backwards.any():
        bad = told[1:][backwards][0]
        raise EvtsimError(
            f"{os.fspath(path)}: damaged at byte {4 * int(start[bad]):,}: time runs backwards on "
            f"CPU {int(cpu[bad])}"
        )
    last = _carried(known, cpu)
    first = tsc[known].min() if known.any() else np.uint64(0)
    tsc = np.where(last >= 0, tsc[last], first)
    length = (header >> 28 & 7).astype(np.int64)
    return Records(words, at, length, event, tsc, cpu, order)


def _carried(known: Array, cpu: Array) -> Array:
    """Return for each record the last one of its CPU, itself included, that is known; else -1."""
    place = np.arange(len(known))
    last = np.maximum.accumulate(np.where(known, place, -1)) if len(known) else place
    begins = np.searchsorted(cpu, cpu)
    carried: Array = np.where(last >= begins, last, -1)
    return carried


def _running(records: Records) -> tuple[Array, Array]:
    """Return which domain and vcpu each record's CPU ran, -1 where nothing has said it yet."""
    words = [records.word(k) for k in range(4)]
    runstate = (records.event & RUNSTATE_MASK == RUNSTATE) & (records.length >= 1)
    to_running = runstate & (records.event >> 4 & 15 == RUNNING)
    switch = (records.event == SWITCH) & (records.length >= 4)
    lost = (records.event == LOST) & (records.length >= 4)
    dom = np.select([to_running, switch, lost], [words[0] >> 16, words[2], words[1] & 0xFFFF], -1)
    vcpu = np.select([to_running, switch, lost], [words[0] & 0xFFFF, words[3], words[1] >> 16], -1)
    last = _carried(to_running | switch | lost, records.cpu)
    return np.where(last >= 0, dom[last], -1), np.where(last >= 0, vcpu[last], -1)


def _frame(
    records: Records, dom: Array, vcpu: Array, rate: int, idle: bool, path: str | os.PathLike[str]
) -> pd.DataFrame:
    """Give records their meaning; what has none here is left out."""
    kind = np.full(len(records.event), -1, np.int8)
    value = np.zeros(len(records.event), np.int64)
    dom, vcpu = dom.copy(), vcpu.copy()
    words = [records.word(k) for k in range(4)]
    event, length = records.event, records.length

    def mark(where: Array, name: str, values: Array | int = 0) -> None:
        kind[where] = KINDS.index(name)
        value[where] = np.broadcast_to(values, len(where))[where]

    def about(where: Array, which_dom: Array, which_vcpu: Array | int) -> None:
        dom[where] = which_dom[where]
        vcpu[where] = np.broadcast_to(which_vcpu, len(where))[where]

    pv = ((event == PV_HYPERCALL) | (event == PV_SUBCALL)) & (length >= 1)
    number = np.where(pv, words[0] & 0xFFFFF, words[0])
    calls = pv | ((event == VMMCALL) & (length >= 1))
    mark(calls, "hypercall", number)
    # Two bits say how each argument is given: not at all, with 32 or with 64 bits.
    has_first = pv & (words[0] >> 20 & 3 != 0) & (length >= 2)
    operation = np.where(has_first, words[1], -1)
    mark(calls & (number == EVENT_CHANNEL_OP), "event_channel_op", operation)
    injected = (event == INJECTED) & (length >= 1)
    mark(injected, "interrupt", words[0])
    mark(injected & (words[0] == UPCALL_VECTOR), "upcall", words[0])
    for number_of, name in NAMING.items():
        here = (event == number_of) & (length >= 2)
        mark(here, name)
        about(here, words[0], words[1])
    runstate = (event & RUNSTATE_MASK == RUNSTATE) & (length >= 1)
    mark(runstate, "runstate", event >> 4 & 15)
    about(runstate, words[0] >> 16, words[0] & 0xFFFF)
    mark((event == SWITCH) & (length >= 4), "switch", words[0])
    mark((event == IRQ) & (length >= 1), "irq", words[0])
    for number_of, name in DOMAINS.items():
        here = (event == number_of) & (length >= 1)
        mark(here, name)
        about(here, words[0], -1)
    lost = (event == LOST) & (length >= 4)
    mark(lost, "lost_end", words[0])

    since = (words[2] | words[3] << 32).astype(np.uint64)[lost]
    tsc = np.concatenate([records.tsc, np.minimum(since, records.tsc[lost])])
    kept = kind >= 0 if idle else (kind >= 0) & ((dom != IDLE) | lost)
    rows = np.concatenate([np.flatnonzero(kept), np.flatnonzero(lost)])
    kinds = np.concatenate([kind[kept], np.full(lost.sum(), KINDS.index("lost"), np.int8)])
    ticks = np.concatenate([tsc[: len(kind)][kept], tsc[len(kind) :]])
    # At one time stamp as in the file, and a gap begins before it ends.
    order = np.lexsort((kinds != KINDS.index("lost"), records.position[rows], ticks))
    rows, kinds, ticks = rows[order], kinds[order], ticks[order]
    ts = _nanoseconds(ticks - tsc.min(), rate, path) if len(tsc) else ticks
    frame: pd.DataFrame = frame_of(ts, records.cpu[rows], dom[rows], vcpu[rows], kinds, value[rows])
    return frame


def _nanoseconds(ticks: Array, rate: int, path: str | os.PathLike[str]) -> Array:
    """Return ns of ticks, exactly, rounded down."""
    hz, giga = np.uint64(rate), np.uint64(10**9)
    seconds, rest = ticks // hz, ticks % hz
    if len(ticks) and int(seconds.max()) >= 9 * 10**9:
        span = f"{int(seconds.max()):,} s at {rate:,} Hz"
        raise EvtsimError(f"{os.fspath(path)}: spans {span} (expected less than 285 years)")
    ns: Array = (seconds * giga + rest * giga // hz).astype(np.int64)
    return ns
