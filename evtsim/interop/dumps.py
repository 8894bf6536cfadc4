"""Dumps of Xen's debug key ``e``, and what ``lsevtchn`` prints: reading and writing.

The format is that of ``domain_dump_evtchn_info`` in Xen's event_channel.c and of the two ABIs'
``print_state`` (event_2l.c, event_fifo.c); in 2010 it was another. Numbers here count lines
from 1, as editors do.
"""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from evtsim._files import written_whole
from evtsim.abi import PortState
from evtsim.errors import EvtsimError, reason, shown
from evtsim.interop import _reading
from evtsim.interop._lines import Lines
from evtsim.interop.snapshots import Snapshot, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from evtsim.state import State

PREFIX = "(XEN) "


class NoDumpError(EvtsimError):
    """A log has no dump of event channels."""


def read(log: str | bytes | os.PathLike[str], *, dom: int = 0) -> list[Snapshot]:
    """Read all dumps of a log, in order.

    Anything may stand around and between their lines: prefixes, timestamps, quoting, others'
    output. A line inside a dump that looks like one of its own and cannot be read is left out
    and reported by the snapshot's ``problems``. docs/dumps.md has the rules.

    Parameters
    ----------
    log : path-like, str or bytes
        A file, by name (``-`` is stdin, ``.gz`` is unpacked), or, with a newline in it, the text
        itself.
    dom : int
        Whose channels ``lsevtchn`` listed: it does not say.

    Returns
    -------
    list of Snapshot
        At least one.

    Raises
    ------
    EvtsimError
        The file cannot be read, or holds no dump.

    Examples
    --------
    >>> from evtsim.interop import dumps
    >>> snapshot, = dumps.read('''(XEN) Event channel information for domain 27:
    ... (XEN) Polling vCPUs: {}
    ... (XEN)     port [p/m/s]
    ... (XEN)        1 [1/0/1]: s=3 n=0 x=0 d=0 p=33
    ... (XEN)        3 [1/0/1]: s=5 n=0 x=0 v=0
    ... ''')
    >>> snapshot.ports[["dom", "port", "state_name", "pending", "mask", "remote_port"]]
       dom  port   state_name  pending  mask  remote_port
    0   27     1  INTERDOMAIN        1     0           33
    1   27     3         VIRQ        1     0            0
    """
    if not isinstance(dom, int) or not 0 <= dom < 1 << 16:
        raise EvtsimError(f"dom is {shown(dom)} (expected 0 to 65,535)")
    source, data = _load(log)
    lines = Lines(data)
    made = [*_reading.debug_key(lines, source), *_reading.listings(lines, source, dom)]
    snapshots = sorted(made, key=lambda snapshot: snapshot.line)
    if not snapshots:
        raise NoDumpError(
            f"{source}: no dump of event channels (expected 'Event channel information for "
            "domain N:' of the debug key e, or the output of lsevtchn)"
        )
    return snapshots


def _load(log: str | bytes | os.PathLike[str]) -> tuple[str, bytes]:
    """Return a log's name and its bytes."""
    if isinstance(log, bytes):
        return "log", log
    if isinstance(log, str) and "\n" in log:
        return "log", log.encode(errors="surrogateescape")
    name = os.fspath(log)
    if name == "-":
        return "stdin", sys.stdin.buffer.read()
    try:
        data = Path(name).read_bytes()
        return name, gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (EOFError, zlib.error):
        raise EvtsimError(f"{name}: not a whole gzip file") from None
    except (OSError, ValueError) as error:
        raise EvtsimError(f"{name}: {reason(error)}") from None


def write(
    state: State | Snapshot,
    path: str | os.PathLike[str] | None = None,
    *,
    prefix: str | None = None,
    overwrite: bool = True,
) -> str:
    """Write a dump of a state as Xen would print it, and return its text.

    A state of profile xen-4.0 is written as 2010's Xen did, others as present ones do. Xen's
    ``i=`` of a PIRQ, which a state does not know, is the PIRQ's own number.

    Parameters
    ----------
    state : State or Snapshot
    path : path-like, optional
        Where to write it as well.
    prefix : str, optional
        What every line begins with; if not given, ``(XEN) `` for what Xen prints.
    overwrite : bool
        Whether a file that is there already may be replaced.

    Returns
    -------
    str
    """
    snapshot = state if isinstance(state, Snapshot) else Snapshot.of(state)
    listed = snapshot.form == "lsevtchn"
    lines = _lsevtchn(snapshot) if listed else _debug_key(snapshot)
    if prefix is None:
        prefix = "" if listed else PREFIX
    text = "".join(f"{prefix}{line}\n" for line in lines)
    if path is not None:
        with written_whole(path, overwrite=overwrite) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return text


def _debug_key(snapshot: Snapshot) -> Iterator[str]:
    """Yield the lines of a dump of the debug key."""
    old = snapshot.form == "e-2010"
    ports: dict[Any, Any] = dict(iter(snapshot.ports.groupby("dom")))
    yield "'e' pressed -> dumping event-channel info"
    for row in rows_of(snapshot.domains):
        if old:
            mask = sum(1 << vcpu for vcpu in row.polling if vcpu < 64)
            yield f"Domain {row.dom} polling vCPUs: {mask:08x}"
        yield f"Event channel information for domain {row.dom}:"
        if not old:
            yield f"Polling vCPUs: {{{_number_list(row.polling)}}}"
        yield "    port [p/m]" if old else "    port [p/m/s]"
        if row.dom in ports:
            yield from (_port_line(port, old) for port in rows_of(ports[row.dom]))


def _number_list(numbers: tuple[int, ...]) -> str:
    """Write vcpus as Xen's %*pbl does: 0,2-3."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def _port_line(port: Any, old: bool) -> str:
    """Write a port as Xen does."""
    bits = f"{port.pending}/{port.mask}" + ("" if old else f"/{_queue_field(port)}")
    rest = {
        PortState.UNBOUND: f" d={port.remote_dom}",
        PortState.INTERDOMAIN: f" d={port.remote_dom} p={port.remote_port}",
        PortState.PIRQ: f" p={port.irq}" + ("" if old else f" i={port.host_irq}"),
        PortState.VIRQ: f" v={port.irq}",
    }.get(port.state, "")
    xen = f" x={port.xen}"
    label = f" Z={port.label}" if port.label else ""
    tail = f"{rest}{xen}" if old else f"{xen}{rest}{label}"
    return f"    {port.port:4} [{bits}]: s={port.state} n={port.notify_vcpu}{tail}"


def _queue_field(port: Any) -> str:
    """Write the selector's bit, or what the event word says of queues."""
    if port.word < 0:
        return str(max(port.selector, 0))
    if port.word == 0:
        return "?     "
    busy = "B" if port.busy else " "
    return f"{busy} {port.link:<4}" if port.linked else f"{busy} -   "


def _lsevtchn(snapshot: Snapshot) -> Iterator[str]:
    """Yield the lines that lsevtchn prints."""
    for port in rows_of(snapshot.ports):
        remote = f"Remote Domain {port.remote_dom}"
        rest = {
            PortState.UNBOUND: f"Interdomain (Waiting connection) - {remote}",
            PortState.INTERDOMAIN: f"Interdomain (Connected) - {remote}, Port {port.remote_port}",
            PortState.PIRQ: f"Physical IRQ {port.irq}",
            PortState.VIRQ: f"Virtual IRQ {port.irq}",
        }.get(port.state, "IPI")
        yield f"{port.port:4}: VCPU {port.notify_vcpu}: {rest}"
