"""Replays as Chrome's JSON traces, which ui.perfetto.dev and chrome://tracing show.

The format is Google's "Trace Event Format". A domain is a process (pid), a vcpu its thread (tid);
docs/your-own-data.md says what is shown and what is approximated.
"""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np

from evtsim import abi
from evtsim._files import written_whole
from evtsim.dtypes import NEVER
from evtsim.errors import EvtsimError, shown
from evtsim.guest import Guest
from evtsim.host import Host
from evtsim.interop.intervals import EVERY_DELIVERY, Interval, Level, Moment, Piece, Watch
from evtsim.progress import Shown, shown_progress
from evtsim.simulator import Simulator
from evtsim.trace import Trace

ROW = 1 << 16
"""From a vcpu's row to the next one of the same vcpu: above all numbers of vcpus."""

REMEMBERED = 512
"""Slices of a row that are looked at for overlaps; what ended before is taken to overlap."""


def write(
    trace: Trace | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    host: Host | None = None,
    guest: Guest | None = None,
    window: tuple[int | None, int | None] | None = None,
    domains: Collection[int] | None = None,
    drain: bool = False,
    overwrite: bool = True,
    progress: Shown = None,
) -> int:
    """Replay a trace and write what happened for Perfetto, in bounded memory.

    Parameters
    ----------
    trace : Trace or path-like
    out : path-like
        ``.json``, or ``.json.gz``.
    host : Host, optional
        Overrides the trace's own.
    guest : Guest, optional
        Handles all events; see :func:`evtsim.replay`.
    window : tuple of (int or None, int or None), optional
        From and to, ns, both included; None for no bound. What ends or happens in it is written;
        the replay begins with the trace all the same.
    domains : collection of int, optional
        Write these alone.
    drain : bool
        Whether the guest goes on after the last record.
    overwrite : bool
        Whether a file that is there already may be replaced.
    progress : callable or True, optional
        As for :func:`evtsim.replay`.

    Returns
    -------
    int
        Events written.

    Raises
    ------
    EvtsimError
        The trace cannot be replayed, the window or a domain makes no sense, or the file cannot be
        written.
    """
    name = os.fspath(out)
    if not name.endswith((".json", ".json.gz")):
        raise EvtsimError(f"{name}: unknown suffix (expected .json or .json.gz)")
    if not isinstance(trace, Trace):
        trace = Trace.load(trace, host)
    host = trace.require_host(host)
    if drain and guest is None:
        raise EvtsimError("drain lets a guest go on, and there is none (guest= gives one)")
    first, last = _window(window)
    chosen = _domains(domains, host)
    sim = Simulator(host, guest, "port", deliveries=EVERY_DELIVERY)
    sim.check_start(trace)
    watch = Watch(sim, first, last, drain)
    with (
        shown_progress(progress, "exporting", "records") as show,
        written_whole(out, overwrite=overwrite) as temporary,
        _stream(temporary, name.endswith(".gz")) as stream,
    ):
        events = _Events(chosen, first)
        stream.write('{"displayTimeUnit": "ns", "traceEvents": [')
        for piece in watch.pieces(trace, show):
            stream.write(events.text(piece))
        stream.write("\n]}\n")
    return events.written


def _window(window: Any) -> tuple[int, int]:
    bounds = (None, None) if window is None else window
    if isinstance(bounds, (tuple, list)) and len(bounds) == 2:
        first, last = 0 if bounds[0] is None else bounds[0], bounds[1]
        last = NEVER - 1 if last is None else last
        whole = all(isinstance(n, (int, np.integer)) for n in (first, last))
        if whole and 0 <= first <= last < NEVER:
            return int(first), int(last)
    raise EvtsimError(f"window is {shown(window)} (expected ns, from and to)")


def _domains(domains: Collection[int] | None, host: Host) -> frozenset[int] | None:
    if domains is None:
        return None
    for dom in domains:
        if not isinstance(dom, (int, np.integer)) or not 0 <= dom < len(host):
            raise EvtsimError(f"domain {shown(dom)} (expected 0 to {len(host) - 1})")
    return frozenset(int(dom) for dom in domains)


@contextlib.contextmanager
def _stream(path: Path, compressed: bool) -> Iterator[TextIO]:
    """Open a file for text, or compressed text without name and clock time in it."""
    with contextlib.ExitStack() as stack:
        if compressed:
            raw = stack.enter_context(path.open("wb"))
            packed = stack.enter_context(gzip.GzipFile("", "wb", 6, raw, mtime=0))
            yield cast(TextIO, stack.enter_context(_Encoded(packed)))
        else:
            yield stack.enter_context(path.open("w", encoding="ascii"))


class _Encoded(contextlib.AbstractContextManager[Any]):
    """Writes text to a stream of bytes."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        self.stream.write(text.encode("ascii"))

    def __exit__(self, *_: object) -> None:
        pass


class _Row:
    """Decides whether a slice may stand on a row: Perfetto drops one that crosses another."""

    def __init__(self) -> None:
        self.slices: list[tuple[int, int]] = []
        self.forgotten = -1

    def takes(self, start: int, end: int) -> bool:
        """Put a slice here unless it crosses one; slices come by their ends."""
        slices, place = self.slices, len(self.slices)
        while place and slices[place - 1][0] > start:
            place -= 1
        if start < self.forgotten:
            return False
        if place and slices[place - 1][1] > start:
            # Within another that ends with it, or across.
            return slices[place - 1][1] == end
        slices[place:] = [(start, end)]
        if len(slices) > REMEMBERED:
            self.forgotten = slices[REMEMBERED // 2 - 1][1]
            del slices[: REMEMBERED // 2]
        return True


class _Events:
    """Turns pieces of a replay into the text of events."""

    def __init__(self, domains: frozenset[int] | None, first: int) -> None:
        self.domains = domains
        self.first = first
        self.written = 0
        self.flows = 0
        self.rows: dict[tuple[int, int], list[_Row]] = {}
        self.named: set[tuple[int, int]] = set()
        self.lines: list[str] = []

    def text(self, piece: Piece) -> str:
        """Return a piece's events, with the comma that stands before each but the first."""
        self.lines = []
        for interval in sorted(piece.intervals, key=lambda i: (i.end, -i.start)):
            if self._wanted(interval.dom, interval.end):
                self._slice(interval)
        for moment in piece.moments:
            if self._wanted(moment.dom, moment.ts):
                self._moment(moment)
        for level in piece.levels:
            if self._wanted(level.dom, level.ts):
                self._level(level)
        begins = "," if self.written and self.lines else ""
        self.written += len(self.lines)
        return begins + ",".join(self.lines)

    def _wanted(self, dom: int, ts: int) -> bool:
        return ts >= self.first and (self.domains is None or dom in self.domains)

    def _add(self, fields: str) -> None:
        self.lines.append(f"\n{{{fields}}}")

    def _at(self, ts: int, dom: int, tid: int) -> str:
        return f'"ts":{_microseconds(ts)},"pid":{dom},"tid":{tid}'

    def _name(self, dom: int, tid: int) -> None:
        """Say once what a process and a thread are."""
        if (dom, -1) not in self.named:
            self.named.add((dom, -1))
            self._describe("process_name", dom, 0, f'"name":"domain {dom}"')
            self._describe("process_sort_index", dom, 0, f'"sort_index":{dom}')
        if tid >= 0 and (dom, tid) not in self.named:
            self.named.add((dom, tid))
            row, vcpu = divmod(tid, ROW)
            more = f" ({row + 1})" if row else ""
            self._describe("thread_name", dom, tid, f'"name":"vcpu {vcpu}{more}"')
            # A vcpu's rows together.
            self._describe("thread_sort_index", dom, tid, f'"sort_index":{vcpu * 4096 + row}')

    def _describe(self, name: str, dom: int, tid: int, args: str) -> None:
        self._add(f'"name":"{name}","ph":"M","ts":0,"pid":{dom},"tid":{tid},"args":{{{args}}}')

    def _slice(self, interval: Interval) -> None:
        """Write a pending interval, and who sent it to whom."""
        start, end, dom, vcpu, port, how, kind, coalesced, sender_dom, sender_vcpu = interval
        rows = self.rows.setdefault((dom, vcpu), [])
        number = next((n for n, row in enumerate(rows) if row.takes(start, end)), len(rows))
        if number == len(rows):
            rows.append(_Row())
            rows[-1].takes(start, end)
        tid = vcpu + number * ROW
        self._name(dom, tid)
        args = f'"port":{port},"end":"{how}"'
        if coalesced >= 0:
            args += f',"coalesced":{coalesced}'
        if sender_dom >= 0:
            args += f',"from_dom":{sender_dom},"from_vcpu":{sender_vcpu}'
        self._add(
            f'"name":"port {port}","cat":"{kind or "event"}","ph":"X",{self._at(start, dom, tid)},'
            f'"dur":{_microseconds(end - start)},"args":{{{args}}}'
        )
        if how == "delivered" and sender_dom >= 0 and self._wanted(sender_dom, end):
            self._flow(interval)

    def _flow(self, interval: Interval) -> None:
        """Draw an arrow from a send to its delivery; its ends are tied to instants."""
        self.flows += 1
        for ph, ts, dom, vcpu, name in (
            ("s", interval.start, interval.sender_dom, interval.sender_vcpu, "send"),
            ("f", interval.end, interval.dom, interval.vcpu, "delivered"),
        ):
            self._name(dom, vcpu)
            where = self._at(ts, dom, vcpu)
            args = f'"args":{{"dom":{interval.dom},"port":{interval.port}}}'
            self._add(f'"name":"{name}","cat":"{name}","ph":"i","s":"t",{where},{args}')
            enclosing = '"bp":"e",' if ph == "f" else ""
            self._add(
                f'"name":"event","cat":"send","ph":"{ph}",{enclosing}"id":{self.flows},{where},'
                '"args":{}'
            )

    def _moment(self, moment: Moment) -> None:
        """Write a kick or an error."""
        self._name(moment.dom, moment.vcpu)
        op, errno = abi.op_name(moment.op), abi.errno_name(-moment.errno)
        name, cat = (f"{errno} {op}", "error") if errno else ("KICK", "kick")
        where = self._at(moment.ts, moment.dom, moment.vcpu)
        self._add(f'"name":"{name}","cat":"{cat}","ph":"i","s":"t",{where},"args":{{"op":"{op}"}}')

    def _level(self, level: Level) -> None:
        """Write how many ports are pending."""
        self._name(level.dom, -1)
        where = self._at(level.ts, level.dom, 0)
        self._add(f'"name":"pending","ph":"C",{where},"args":{{"ports":{level.ports}}}')


def _microseconds(ns: int) -> str:
    """Write ns as µs, exactly."""
    return f"{ns // 1000}.{ns % 1000:03d}"
