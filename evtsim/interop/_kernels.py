"""Where records of a binary trace begin: each says its own length, so they are walked in order."""

import numpy as np

from evtsim._jit import entry

WINDOW = np.uint32(0x2001F003)
"""Header of a window: TRC_TRACE_CPU_CHANGE with two words and no TSC."""

MAX_CPUS = 1 << 16

WHOLE, CUT, FOREIGN, SPILLED, MISSHAPEN = range(5)
"""How a walk ended: at the end; in mid-record; at something else than a window; at a record that is
longer than its window; at a window of an impossible CPU or size."""


@entry
def walk_xentrace(words, starts, cpus):
    """Find the records of a xentrace file.

    Parameters
    ----------
    words : ndarray of uint32
        Read-only, contiguous, 1-D; the file.
    starts : ndarray of int64
        As long as words; overwritten with the index of each record's header.
    cpus : ndarray of int32
        As long as words; overwritten with each record's physical CPU.

    Returns
    -------
    records : int
        How many were found, windows' headers not counted.
    at : int
        Index of the word where the walk ended.
    end : int
        WHOLE, CUT, FOREIGN, SPILLED or MISSHAPEN.
    """
    total = np.int64(len(words))
    records = np.int64(0)
    at = np.int64(0)
    while at < total:
        if words[at] != WINDOW:
            return records, at, FOREIGN
        if at + 3 > total:
            return records, at, CUT
        cpu = np.int64(words[at + 1])
        size = np.int64(words[at + 2])
        if cpu >= MAX_CPUS or size & 3:
            return records, at, MISSHAPEN
        at += 3
        end = at + (size >> 2)
        while at < end:
            if at >= total:
                return records, at, CUT
            header = np.int64(words[at])
            length = 1 + ((header >> 28) & 7) + 2 * (header >> 31)
            if at + length > end:
                return records, at, SPILLED
            if at + length > total:
                return records, at, CUT
            starts[records] = at
            cpus[records] = cpu
            records += 1
            at += length
    return records, at, WHOLE
