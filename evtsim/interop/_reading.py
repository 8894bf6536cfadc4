"""From the lines of a log to snapshots: whose ports they are, and which do not fit."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import abi
from evtsim.abi import PortState
from evtsim.interop import _lines
from evtsim.interop._lines import Lines, is_there, numbers_of
from evtsim.interop.snapshots import NOT_SAID, Problem, Snapshot, port_frame

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

    import pandas as pd

    from evtsim.dtypes import Array

MOST_PROBLEMS = 1_000
"""Lines of one kind in one dump that are reported one by one."""

FIELDS = {
    PortState.UNBOUND: "d",
    PortState.INTERDOMAIN: "dp",
    PortState.PIRQ: "p",
    PortState.VIRQ: "v",
    PortState.IPI: "",
}
"""What Xen prints of a port in each state, besides i= of a PIRQ."""


@dataclasses.dataclass
class Section:
    """What follows a line that begins a domain's part of a dump, or ends one.

    Attributes
    ----------
    line : int
        Number of the line, from 0.
    dom : int
        Whose ports follow; -1 where none do.
    dump : int
        Number of the dump, from 0; -1 for what belongs to none.
    polling : tuple of int
    """

    line: int
    dom: int
    dump: int
    polling: tuple[int, ...] = ()


class Log:
    """A log while it is read: its sections, and problems by the number of their dump.

    Attributes
    ----------
    lines : Lines
    ports : array of int64
        Lines that look like a port's.
    right : array of bool
        Which of them are.
    groups : dict
        Their fields.
    sections : list of Section
    starts : list of (int, str)
        Of every dump: its first line, and that line's timestamp.
    old : set of int
        Dumps of 2010's form.
    """

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        # Almost every line that looks like a port's is one; only the others are looked at twice.
        likely = self.lines.having(b"]: s=")
        right, self.groups = self.lines.fields(likely, _lines.PORT)
        others = np.ones(len(self.lines.array), bool)
        others[likely[right]] = False
        rest = self.lines.like(_lines.LIKE_PORT, np.flatnonzero(others))
        self.ports = np.sort(np.append(likely[right], rest))
        self.right = ~others[self.ports]
        self.sections: list[Section] = []
        self.starts: list[tuple[int, str]] = []
        self.old: set[int] = set()
        self._problems: dict[int, list[Problem]] = {}
        self._find_sections()

    def _find_sections(self) -> None:
        """Look at every header, in order."""
        last = -1  # the domain before
        waiting: tuple[int, tuple[int, ...]] = (-1, ())  # 2010's polls, of the domain that comes
        likely = self.lines.having(b"' pressed", b"Event channel", b"olling")
        for number in self.lines.like(_lines.HEADER, likely).tolist():
            text = self.lines.text(number)
            dump = self.sections[-1].dump if self.sections else -1
            if key := _lines.KEY.match(text):
                dump = self._begin(number, key) if key["key"] == b"e" else -1
                self.sections.append(Section(number, -1, dump))
                last = -1
            elif (header := _lines.DOMAIN.match(text)) and int(header["dom"]) < abi.MAX_DOMAINS:
                dom = int(header["dom"])
                if dom == last and not self._has_ports(self.sections[-1].line, number):
                    self.report(dump, number, "the domain's header once more")
                    continue
                if dump < 0 or dom <= last:
                    dump = self._begin(number, header)
                polling: tuple[int, ...] = ()
                if waiting[0] == dom:
                    polling = waiting[1]
                    self.old.add(dump)
                self.sections.append(Section(number, dom, dump, polling))
                last, waiting = dom, (-1, ())
            elif old := _lines.OLD_POLLING.match(text):
                waiting = int(old["dom"]), _bits(int(old["bits"], 16))
            elif (polls := _lines.POLLING.match(text)) and (
                vcpus := _number_list(polls["list"])
            ) is not None:
                if self.sections:
                    self.sections[-1].polling = vcpus
            elif dump >= 0:
                self.report(dump, number, "cannot be read")
                if b"information" in text:  # whose the ports are that follow, nobody knows
                    self.sections.append(Section(number, -1, dump))

    def _begin(self, number: int, match: re.Match[bytes]) -> int:
        """Begin a dump; its number."""
        time = match["time"] or b""
        self.starts.append((number, time.decode(errors="replace").strip()))
        return len(self.starts) - 1

    def _has_ports(self, first: int, last: int) -> bool:
        return bool(np.searchsorted(self.ports, first) < np.searchsorted(self.ports, last))

    def section_of(self, numbers: Array) -> Array:
        """Return the section that each line lies in; -1 before the first."""
        begins = np.array([section.line for section in self.sections], np.int64)
        return np.searchsorted(begins, numbers) - 1

    def of_sections(self, name: str) -> Array:
        """Return a field of all sections; -1 comes first, for lines before them."""
        return np.array([-1, *(getattr(section, name) for section in self.sections)], np.int64)

    def report(self, dump: int, number: int, what: str) -> None:
        """Report a line of a dump's."""
        self._problems.setdefault(dump, []).append(self.lines.problem(number, what))

    def report_all(self, dumps: Array, numbers: Array, what: str) -> None:
        """Report lines, the first of each dump one by one."""
        for dump in np.unique(dumps).tolist():
            lines = numbers[dumps == dump]
            for number in lines[:MOST_PROBLEMS].tolist():
                self.report(dump, number, what)
            if len(lines) > MOST_PROBLEMS:
                more = len(lines) - MOST_PROBLEMS
                self.report(dump, int(lines[MOST_PROBLEMS]), f"one of {more:,} more: {what}")

    def problems(self, dump: int) -> tuple[Problem, ...]:
        """Return a dump's problems, by line."""
        return tuple(sorted(self._problems.get(dump, ()), key=lambda problem: problem.line))


def _bits(mask: int) -> tuple[int, ...]:
    return tuple(n for n in range(mask.bit_length()) if mask >> n & 1)


def _number_list(text: bytes) -> tuple[int, ...] | None:
    """Read a list like 0,2-3; None if it is none."""
    numbers: set[int] = set()
    for part in text.split(b",") if text else ():
        first, dash, last = part.partition(b"-")
        if not first.isdigit() or (dash and not last.isdigit()):
            return None
        if len(first) > 5 or int(last or first) >= abi.MAX_VCPUS:
            return None
        numbers.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(numbers))


def debug_key(lines: Lines, source: str) -> list[Snapshot]:
    """Return a log's dumps of the debug key, in order."""
    log = Log(lines)
    columns = _read_ports(log)
    dump = log.of_sections("dump")[log.section_of(columns["line"] - 1) + 1]
    snapshots = []
    for place, (first, time) in enumerate(log.starts):
        own = [each for each in log.sections if each.dump == place and each.dom >= 0]
        if not own:
            continue
        rows = slice(*np.searchsorted(dump, [place, place + 1]).tolist())
        ports = port_frame({name: column[rows] for name, column in columns.items()})
        last = max(own[-1].line + 1, int(ports["line"].max()) if len(ports) else 0)
        old = place in log.old
        domains = _domain_frame(own, ports, old)
        form = "e-2010" if old else "e"
        problems = log.problems(place)
        snapshots.append(Snapshot(ports, domains, form, source, first + 1, last, time, problems))
    return snapshots


def _domain_frame(sections: list[Section], ports: pd.DataFrame, old: bool) -> pd.DataFrame:
    """Make the frame of domains."""
    import pandas as pd

    fifo = set(ports["dom"][ports["word"] >= 0].tolist())
    plain = set(ports["dom"][ports["selector"] >= 0].tolist())
    return pd.DataFrame(
        {
            "dom": np.array([each.dom for each in sections], np.uint16),
            "abi": [
                "fifo" if each.dom in fifo else "2l" if old or each.dom in plain else ""
                for each in sections
            ],
            "polling": [each.polling for each in sections],
            "line": np.array([each.line + 1 for each in sections], np.int64),
        }
    )


def _read_ports(log: Log) -> dict[str, Array]:
    """Return the ports of all dumps as columns, in order."""
    section = log.section_of(log.ports)
    dump, dom = (log.of_sections(name)[section + 1] for name in ("dump", "dom"))
    inside = dom >= 0
    right = log.right
    _report_unread(log, dump, inside, right)
    columns = _port_columns(log.groups)
    fits = columns.pop("fits")
    numbers, dump, dom, section, inside = (
        values[right] for values in (log.ports, dump, dom, section, inside)
    )
    odd = ~fits & inside
    log.report_all(dump[odd], numbers[odd], "does not fit together, or is out of range")
    columns |= {"dom": dom, "line": numbers + 1}
    keep = np.flatnonzero(fits & inside)
    columns = {name: column[keep] for name, column in columns.items()}
    keep = _in_order(log, columns, section[keep], dump[keep])
    return {name: column[keep] for name, column in columns.items()}


def _report_unread(log: Log, dump: Array, inside: Array, right: Array) -> None:
    """Report lines that look like a port's and are none, or nobody's."""
    wrong = np.flatnonzero(~right & inside)
    flux = np.array([b"in flux" in log.lines.text(int(n)) for n in log.ports[wrong]], bool)
    changing, unread = wrong[flux], wrong[~flux]
    log.report_all(dump[changing], log.ports[changing], "was changing, Xen did not look at it")
    log.report_all(dump[unread], log.ports[unread], "cannot be read")
    astray = right & ~inside
    begins = np.array([number for number, _ in log.starts], np.int64)
    near = np.where(dump < 0, np.searchsorted(begins, log.ports) - 1, dump)
    what = "a port without its domain's header"
    log.report_all(np.maximum(near, 0)[astray], log.ports[astray], what)


def _port_columns(groups: dict[str, Any]) -> dict[str, Array]:
    """Return the columns of a snapshot's ports, and in `fits` whether each line makes sense."""
    names = ("port", "pending", "mask", "state", "notify_vcpu", "d", "p", "i", "v", "x", "old_x")
    n = {name: numbers_of(groups[name]) for name in names}
    state = n["state"]
    fits = (n["port"] > 0) & (n["port"] < abi.MAX_PORT_FIFO) & (n["notify_vcpu"] < abi.MAX_VCPUS)
    fits &= (n["d"] < 1 << 16) & (n["p"] < abi.MAX_PORT_FIFO) & (n["v"] < abi.NR_VIRQS)
    fits &= (n["x"] >= 0) != (n["old_x"] >= 0)
    fits &= (n["i"] == NOT_SAID) | (state == PortState.PIRQ)
    known = np.zeros(len(state), bool)
    for number, wanted in FIELDS.items():
        whole = [(n[name] >= 0) == (name in wanted) for name in ("d", "p", "v")]
        known |= (state == number) & np.logical_and.reduce(whole)
    third, readable = _third_field(groups["third"])
    return {
        "port": n["port"],
        "pending": n["pending"],
        "mask": n["mask"],
        "state": state,
        "notify_vcpu": n["notify_vcpu"],
        "xen": np.maximum(n["x"], n["old_x"]),
        "remote_dom": np.maximum(n["d"], 0),
        "remote_port": np.where(state == PortState.INTERDOMAIN, n["p"], 0),
        "irq": np.where(state == PortState.PIRQ, n["p"], np.maximum(n["v"], 0)),
        "host_irq": n["i"],
        **third,
        "label": _texts(groups["label"]),
        "fits": fits & known & readable,
    }


def _texts(column: Any) -> Array:
    """Return a group as texts."""
    texts = np.full(len(column), "", object)
    for i in np.flatnonzero(is_there(column)).tolist():
        texts[i] = column[i].as_py().decode(errors="replace")
    return texts


def _third_field(field: Any) -> tuple[dict[str, Array], Array]:
    """Return what stands after pending and mask as columns, and whether it can be read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    # A lone digit is a selector's bit; a link is padded with spaces.
    one, zero = (pc.equal(field, text).to_numpy(zero_copy_only=False) for text in (b"/1", b"/0"))
    other = is_there(field) & ~one & ~zero
    groups = pc.extract_regex(field.filter(pa.array(other)), _lines.FIFO_FIELD)
    fifo = other.copy()
    fifo[other] = groups.is_valid().to_numpy(zero_copy_only=False)
    names = [each.name for each in groups.type]

    def group(name: str, value: Callable[[Any], Array]) -> Array:
        part = pc.struct_field(groups.drop_null(), [names.index(name)])
        whole = np.zeros(len(fifo), np.int64)
        whole[fifo] = value(part)
        return whole

    linked = group("link", is_there)

    def under_fifo(values: Array) -> Array:
        return np.where(fifo, values, NOT_SAID)

    columns = {
        "selector": np.where(one | zero, one, NOT_SAID),
        "word": under_fifo(1 - group("none", is_there)),
        "busy": under_fifo(group("busy", is_there)),
        "linked": under_fifo(linked),
        "link": group("link", lambda part: numbers_of(part, 0)),
    }
    fits = one | zero | (fifo & (columns["link"] < abi.MAX_PORT_FIFO)) | ~is_there(field)
    return columns, fits


def _in_order(log: Log, columns: dict[str, Array], section: Array, dump: Array) -> Array:
    """Return which ports to keep: Xen prints each once, in order, and under one ABI a domain."""
    import pandas as pd

    numbers = columns["line"] - 1
    twice = np.zeros(len(numbers), bool)
    if np.any(np.diff(section << 18 | columns["port"]) <= 0):
        frame = pd.DataFrame({**columns, "section": section}).drop(columns="line")
        twice = frame.duplicated().to_numpy()
    log.report_all(dump[twice], numbers[twice], "an earlier line once more")
    fifo = columns["word"] >= 0
    spoken = (fifo | (columns["selector"] >= 0)) & ~twice
    of_section = np.zeros(len(log.sections), bool)
    sections, first = np.unique(section[spoken], return_index=True)
    of_section[sections] = fifo[spoken][first]
    other = spoken & (fifo != of_section[section])
    log.report_all(dump[other], numbers[other], "under another ABI than its domain")

    kept = np.flatnonzero(~twice & ~other)
    section, dump, numbers = section[kept], dump[kept], numbers[kept]
    key = section << 18 | columns["port"][kept]
    back = key <= np.maximum.accumulate(np.append(-1, key))[:-1]
    # One such line is noise. Where two follow each other, another domain's header is missing.
    pairs = np.flatnonzero(back[:-1] & back[1:] & (section[:-1] == section[1:]))
    rest = np.zeros(len(kept), bool)
    for start in pairs[np.unique(section[pairs], return_index=True)[1]].tolist():
        stop = int(np.searchsorted(section, section[start], side="right"))
        rest[start:stop] = True
        what = f"ports begin anew without a domain's header, {stop - start:,} are left out"
        log.report(int(dump[start]), int(numbers[start]), what)
    single = back & ~rest
    log.report_all(dump[single], numbers[single], "not above the port before it")
    result: Array = kept[~back & ~rest]
    return result


def listings(lines: Lines, source: str, dom: int) -> list[Snapshot]:
    """Return what lsevtchn printed, in order: a list ends where port numbers fall."""
    numbers = lines.like(_lines.LIKE_LISTED, lines.having(b": VCPU"))
    right, groups = lines.fields(numbers, _lines.LISTED)
    broken = numbers[~right]
    if not right.any():
        return []
    names = ("port", "notify_vcpu", "pirq", "virq", "waits", "d", "p")
    n = {name: numbers_of(groups[name]) for name in names}
    fits = (n["port"] > 0) & (n["notify_vcpu"] < abi.MAX_VCPUS) & (n["virq"] < abi.NR_VIRQS)
    fits &= np.maximum(n["port"], n["p"]) < abi.MAX_PORT_FIFO
    fits &= np.maximum(n["d"], n["waits"]) < 1 << 16
    columns = {
        "dom": np.full(len(fits), dom),
        "port": n["port"],
        "state": np.select(
            [n["pirq"] >= 0, n["virq"] >= 0, n["waits"] >= 0, n["d"] >= 0],
            [PortState.PIRQ, PortState.VIRQ, PortState.UNBOUND, PortState.INTERDOMAIN],
            PortState.IPI,
        ),
        "notify_vcpu": n["notify_vcpu"],
        "remote_dom": np.maximum(np.maximum(n["d"], n["waits"]), 0),
        "remote_port": np.maximum(n["p"], 0),
        "irq": np.maximum(np.maximum(n["pirq"], n["virq"]), 0),
        "line": numbers[right] + 1,
    }
    begins = np.flatnonzero(np.diff(n["port"], prepend=1 << 20) < 0)
    snapshots = []
    for start, stop in zip(begins, [*begins[1:], len(fits)], strict=True):
        number = numbers[right][start:stop]
        again = np.diff(n["port"][start:stop], prepend=-1) == 0
        keep = start + np.flatnonzero(fits[start:stop] & ~again)
        if not len(keep):
            continue
        ports = port_frame({name: column[keep] for name, column in columns.items()})
        domains = _domain_frame([Section(int(number[0]), dom, 0)], ports, False)
        until = numbers[right][stop] if stop < len(fits) else len(lines.array)
        problems = [
            *(lines.problem(i, "the port once more") for i in number[again].tolist()),
            *(
                lines.problem(i, "out of range")
                for i in number[~fits[start:stop] & ~again].tolist()
            ),
            *(
                lines.problem(i, "cannot be read")
                for i in broken[(broken > number[0]) & (broken < until)].tolist()
            ),
        ]
        found = tuple(sorted(problems, key=lambda problem: problem.line))
        where = int(number[0]) + 1, int(number[-1]) + 1
        snapshots.append(Snapshot(ports, domains, "lsevtchn", source, *where, "", found))
    return snapshots
