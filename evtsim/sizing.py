"""What a replay will need: records, bytes, memory, and roughly how long.

Times are measured, never guessed: on the trace's own first records, or in an earlier replay of
the same kind on this machine, whose rate is kept beside the compiled kernels.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evtsim._files import written_whole
from evtsim.dtypes import OUTCOME_DTYPE, RECORD_DTYPE
from evtsim.errors import EvtsimError
from evtsim.state import State

if TYPE_CHECKING:
    from evtsim.guest import Guest
    from evtsim.host import Host
    from evtsim.simulator import Simulator

SAMPLE = 200_000
"""Records that are replayed to measure, and the fewest whose rate is remembered."""

GZIP = 31
"""What zlib calls the format of .gz files."""

LOOKED_AT = 1 << 22
"""Bytes of a CSV file from which the number of its records is estimated."""

LEVELS = (None, "domain", "port")


@dataclasses.dataclass(frozen=True)
class Size:
    """What a replay of a trace needs.

    Attributes
    ----------
    records : int or None
        None if nobody knows: standard input.
    counted : bool
        Whether that is the number, and not an estimate.
    file_bytes : int or None
        Of the trace file.
    table_bytes, statistics_bytes : int or None
        Of the host's tables at the start, and of the statistics' and the guest's. They grow with
        the ports in use. None without a host.
    """

    records: int | None
    counted: bool
    file_bytes: int | None
    table_bytes: int | None
    statistics_bytes: int | None

    @property
    def column_bytes(self) -> int | None:
        """Bytes of all columns of the trace."""
        return None if self.records is None else self.records * RECORD_DTYPE.itemsize

    @property
    def outcome_bytes(self) -> int | None:
        """Bytes of all outcomes."""
        item = sum(OUTCOME_DTYPE[name].itemsize for name in OUTCOME_DTYPE.names or ())
        return None if self.records is None else self.records * item


@dataclasses.dataclass(frozen=True)
class Rate:
    """What a record costs, reading and checking included, compiling not.

    Attributes
    ----------
    ns : float
        ns per record, by the clock.
    records : int
        That were replayed just now to tell; 0 if an earlier replay told.
    table_bytes : int
        Of all tables after them.
    """

    ns: float
    records: int = 0
    table_bytes: int = 0

    def seconds(self, records: int | None) -> float | None:
        """Return what so many records take; None if nobody knows how many there are."""
        return None if records is None else self.ns * records / 1e9


def size_of(
    path: str | os.PathLike[str],
    records: int | None,
    host: Host | None,
    guest: Guest | None = None,
    stats: str | None = "port",
) -> Size:
    """Tell what a replay of a trace file needs.

    Parameters
    ----------
    path : path-like
    records : int or None
        As the reader tells; None is estimated, from the first 4 MB.
    host : Host or None
    guest, stats
        As for :func:`evtsim.replay`.
    """
    tables = statistics = None
    if host is not None:
        tables = State(host).nbytes
        statistics = State(host, LEVELS.index(stats), guest).nbytes - tables
    name = os.fspath(path)
    file_bytes = Path(name).stat().st_size if Path(name).is_file() else None
    counted = records is not None
    if records is None and file_bytes is not None:
        records, counted = _estimate(name, file_bytes)
    return Size(records, counted, file_bytes, tables, statistics)


def _estimate(path: str, file_bytes: int) -> tuple[int | None, bool]:
    """Estimate how many records a CSV file has, by the lines of its beginning.

    And tell whether that was all of it.
    """
    with Path(path).open("rb") as raw:
        text, unpacker = b"", zlib.decompressobj(GZIP)
        try:
            while len(text) < LOOKED_AT and (block := raw.read(1 << 16)):
                if path.endswith(".gz"):
                    block, unpacker = _unpacked(block, unpacker)
                text += block
        except zlib.error:
            return None, False
        used = raw.tell()
    lines = text.splitlines()
    records = sum(bool(line.strip()) and not line.lstrip().startswith(b"#") for line in lines) - 1
    if used >= file_bytes:
        return max(records, 0), True
    return round(records * file_bytes / max(used, 1)), False


def _unpacked(data: bytes, unpacker: Any) -> tuple[bytes, Any]:
    """Unpack some of a gzip file, which may have several members; and what to go on with."""
    text = b""
    while data:
        if unpacker.eof:
            unpacker = zlib.decompressobj(GZIP)
        text += unpacker.decompress(data)
        data = unpacker.unused_data
    return text, unpacker


def rate_of(
    path: str | os.PathLike[str],
    records: int | None,
    host: Host,
    guest: Guest | None = None,
    stats: str | None = "port",
    *,
    outcomes: bool = False,
    measuring: bool = True,
) -> Rate | None:
    """Tell what a record of a trace costs; None if it is empty, or nobody has measured.

    Of a trace of fewer than 200,000 records it is what the last replay of its kind took, if there
    was one: in so short a replay, what it costs to start would tell nothing of a record.

    Parameters
    ----------
    path, host, guest, stats, outcomes
        As for :func:`measure`.
    records : int or None
        That the trace has, as :func:`size_of` tells.
    measuring : bool
        Whether records may be replayed to tell. What they cost is then remembered.
    """
    known = None if outcomes else recall(host, guest, stats)
    short = records is not None and records < SAMPLE
    if not measuring or (short and known is not None):
        return None if known is None else Rate(known)
    rate = measure(path, host, guest, stats, outcomes=outcomes)
    if rate is not None and rate.records >= SAMPLE and not outcomes:
        _keep(_kind(host, guest, stats), rate.ns)
    return rate


def measure(
    path: str | os.PathLike[str],
    host: Host | None,
    guest: Guest | None = None,
    stats: str | None = "port",
    *,
    outcomes: bool = False,
) -> Rate | None:
    """Replay the first 200,000 records of a trace, and tell what one costs; None if it is empty.

    The first records are those at which domains boot and channels are made, so the rest may be
    faster; or slower, where more domains are at work and caches too small.

    Parameters
    ----------
    path, host, guest, stats
        As for :func:`evtsim.replay_file`.
    outcomes : bool
        Whether to keep outcomes, which are not written.
    """
    from evtsim.simulator import Simulator
    from evtsim.trace import TraceReader
    from evtsim.trace.digest import Digest

    if os.fspath(path) == "-":
        raise EvtsimError("-: what was read to measure could not be read again (expected a file)")
    for piece in TraceReader(path, host):  # compiles what is not compiled, and loads the rest
        Simulator(piece.require_host(host), guest, stats).apply(piece[:1000], outcomes)
        break
    reader = TraceReader(path, host)
    sim = Simulator(reader.require_host(host), guest, stats)
    digest = Digest()
    before = time.perf_counter()
    for piece in reader:
        digest.update(piece.columns)
        sim.apply(piece, outcomes)
        if sim.records >= SAMPLE:
            break
    seconds = time.perf_counter() - before - sim.compile_seconds
    if not sim.records:
        return None
    return Rate(1e9 * seconds / sim.records, sim.records, sim.state.nbytes)


def remember(sim: Simulator, records: int, seconds: float) -> None:
    """Keep what a record of a replay has cost, if there were enough of them."""
    if records < SAMPLE:
        return
    _keep(_kind(sim.host, sim.guest, LEVELS[sim.state.level]), seconds * 1e9 / records)


def _keep(kind: str, ns: float) -> None:
    rates = {**_rates(), kind: ns}
    with contextlib.suppress(EvtsimError, OSError), written_whole(_file()) as temporary:
        temporary.write_text(json.dumps(rates, indent=1, sort_keys=True))


def recall(host: Host, guest: Guest | None = None, stats: str | None = "port") -> float | None:
    """Return what a record cost in the last replay of this kind, in ns; None if there was none.

    Of this kind: with these statistics, such a guest, and this profile of Xen.
    """
    return _rates().get(_kind(host, guest, stats))


def _kind(host: Host, guest: Guest | None, stats: str | None) -> str:
    handled = f"guest {guest.scan} {guest.eoi}" if guest else "no guest"
    return f"{host.profile}, {handled}, stats {stats}"


def _file() -> Path:
    from evtsim._jit import cache_folder

    return cache_folder() / "rates.json"


def _rates() -> dict[str, float]:
    """Read the rates; none, if somebody made the file unreadable."""
    try:
        rates: Any = json.loads(_file().read_text())
        return {str(kind): float(ns) for kind, ns in rates.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
