"""Several cores on one trace: a block is resolved, sorted and carried out by threads.

Between operations that change what ports are, records depend on nothing but ports, and actions on
nothing but their domain. So threads first resolve a part of the block each, then sort it by groups
of domains, then take a share of the groups each. The answers are those of one thread, to the bit.
"""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from evtsim._jit import prepare
from evtsim.abi import Errno, Op
from evtsim.dtypes import TIMELINE_GROUPS, Array, Columns, OutcomeColumns, Sorted, Tables
from evtsim.kernels import shared
from evtsim.tables import OPERATION_SLOTS

MAX_THREADS = 256

BLOCK = 1 << 20
"""Records of a block: enough that handing them to threads costs nothing."""

LEAST = 1 << 14
"""Records that are worth a block."""

SLOTS = [
    OPERATION_SLOTS.index(op)
    for op in (Op.SEND, Op.UNMASK, Op.MASK, Op.UPCALL, Op.RAISE_VIRQ, Op.RAISE_PIRQ)
]
ERRNO_SLOTS = [0, *(1 + list(Errno).index(errno) for errno in (Errno.EINVAL, Errno.ENOENT))]
"""Operations that threads count, and what these answer: places in the table of operations."""

COUNTED = ("done", "failed", "effects", "types", "latency", "operations")
"""Tables that belong to no domain, or to the caller's, which is another than the one acted on."""


class Crew:
    """Threads that replay together, and what they need besides a simulator's tables.

    Parameters
    ----------
    threads : int
    domains : int
        Of the host.
    """

    def __init__(self, threads: int, domains: int, block: int = BLOCK, least: int = LEAST) -> None:
        self.threads = threads
        self.domains = domains
        self.block = block
        self.least = least
        self.waits = 0
        self.pause = least
        groups = min(domains, TIMELINE_GROUPS)
        part = -(-block // threads)
        self.routes = np.zeros(block, np.int64)
        self.sorted = Sorted(
            np.zeros((threads, part), np.int64),
            np.zeros((threads, part), np.uint64),
            np.zeros((threads, part), np.int32),
            np.zeros((threads, groups + 2), np.int64),
        )
        self._executor: ThreadPoolExecutor | None = None
        self._process = 0
        self.own: list[dict[str, Any]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as what it was made of: between stretches it holds nothing else."""
        return Crew, (self.threads, self.domains, self.block, self.least)

    def prepare(self, tables: Tables, columns: Columns, outcomes: OutcomeColumns) -> None:
        """Have the kernels compiled, or loaded."""
        ts, routes, ordered = np.uint64(0), self.routes, self.sorted
        prepare(shared.resolve, tables, columns, 0, 0, 0, 0, routes, False)
        prepare(shared.sort, tables, columns, 0, 0, 0, 0, routes, ordered)
        prepare(shared.act, tables, outcomes, 0, ordered, 0, 0, False)
        if is_timed(tables):
            prepare(shared.begin, tables, ts, ts)
            prepare(shared.end, tables, ts)

    def replay(
        self,
        tables: Tables,
        columns: Columns,
        outcomes: OutcomeColumns,
        start: int,
        stop: int,
        prefetching: bool,
    ) -> int:
        """Apply records from `start` on, a block at most; the number of the first not applied.

        That is `start` itself where the block would be too short to be worth it. Then the next
        ones are left to one thread, more and more of them if that goes on.
        """
        if stop - start < self.least:
            self.waits = stop
        if start < self.waits:
            return start
        count = min(stop - start, self.block)
        asked = count
        parts = self._parts(count)
        ends = self._all(
            lambda first, last: shared.resolve(
                tables, columns, start, first, last, stop, self.routes, prefetching
            ),
            parts,
        )
        count = next((end for end, (_, last) in zip(ends, parts, strict=True) if end < last), count)
        if count < self.least:
            self.waits = start + count + self.pause
            self.pause = min(2 * self.pause, self.block)
            return start
        self.pause = self.least
        self._carry_out(tables, columns, outcomes, start, count, prefetching)
        if count < asked:  # what could not be resolved is for one thread
            self.waits = start + count + self.least
        return start + count

    def _carry_out(
        self,
        tables: Tables,
        columns: Columns,
        outcomes: OutcomeColumns,
        start: int,
        count: int,
        prefetching: bool,
    ) -> None:
        """Let the threads sort and act."""
        timed = is_timed(tables)
        if timed:
            shared.begin(tables, columns.ts[start], columns.ts[start + count - 1])
        mine = self._own_tables(tables)
        self._all(
            lambda own, part, first, last: shared.sort(
                own, columns, start, part, first, last, self.routes, self.sorted
            ),
            [(mine[part], part, *bounds) for part, bounds in enumerate(self._parts(count))],
        )
        self._all(
            lambda own, first, last: shared.act(
                own, outcomes, start, self.sorted, first, last, prefetching
            ),
            [(own, *groups) for own, groups in zip(mine, self._shares(), strict=True)],
        )
        for own in mine:
            tables.host["delivered"] += own.host["delivered"]
        if timed:
            shared.end(tables, columns.ts[start + count - 1])

    def _parts(self, count: int) -> list[tuple[int, int]]:
        """Divide a block of so many records evenly."""
        bounds = [count * n // self.threads for n in range(self.threads + 1)]
        return list(itertools.pairwise(bounds))

    def _shares(self) -> list[tuple[int, int]]:
        """Divide the groups so that every thread has as many actions, as far as that goes."""
        total = self.sorted.starts[:, 1:-1].sum(axis=0)  # actions of all groups up to each
        wanted = total[-1] * np.arange(1, self.threads) // self.threads
        cuts = [0, *(np.searchsorted(total, wanted) + 1).tolist(), len(total)]
        cuts = np.maximum.accumulate(np.minimum(cuts, len(total))).tolist()
        return list(itertools.pairwise(cuts))

    def _own_tables(self, tables: Tables) -> list[Tables]:
        """Return the tables with those that a thread has for itself in place."""
        if not self.own:
            names = [name for name in COUNTED if getattr(tables, name) is not None]
            self.own = [
                {name: np.zeros_like(getattr(tables, name)) for name in (*names, "result")}
                for _ in range(self.threads)
            ]
        mine = []
        for own in self.own:
            host = tables.host.copy()
            host["delivered"] = 0
            mine.append(tables._replace(host=host, **own))
        return mine

    def settle(self, tables: Tables) -> None:
        """Add to the tables what the threads have counted, and begin a new stretch."""
        for own in self.own:
            for name, counts in own.items():
                if name == "operations":
                    _add_operations(tables.operations, counts)
                elif name != "result":
                    _add(getattr(tables, name), counts)
        self.waits = 0

    def _all(self, work: Any, items: list[Any]) -> list[Any]:
        """Do a piece of work on every thread; the last one on this."""
        if self._executor is None or self._process != os.getpid():  # threads do not survive a fork
            self._executor = ThreadPoolExecutor(self.threads, "evtsim")
            self._process = os.getpid()
        others = [self._executor.submit(work, *item) for item in items[:-1]]
        try:
            last = work(*items[-1])
        finally:  # after Ctrl-C, too, nobody writes any more
            wait(others)
        return [*(other.result() for other in others), last]


def is_timed(tables: Tables) -> bool:
    """Tell whether anything asks when a record happens."""
    return tables.level is not None or tables.guest is not None


def _add(total: Array, more: Array) -> None:
    """Move counts to where all are."""
    for name in total.dtype.names or (...,):
        total[name] += more[name]
    more[...] = 0


def _add_operations(total: Array, more: Array) -> None:
    """Do so with records by operation, answer and caller; of first times the earlier one stays.

    The table is large, but a thread only counts these operations and answers.
    """
    for slot in SLOTS:
        for errno in ERRNO_SLOTS:
            old, new = total[slot, errno], more[slot, errno]
            where = np.flatnonzero(new["records"])
            first = np.minimum(old["first_ts"], new["first_ts"])[where]
            counted = old["records"][where] > 0
            old["first_ts"][where] = np.where(counted, first, new["first_ts"][where])
            old["records"] += new["records"]
            new[...] = 0
