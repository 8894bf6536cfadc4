"""Replaying traces of any length: in bounded memory, with results in parts, and resumable.

See docs/streaming.md for what is kept where. A replay in memory is run.replay's.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import __version__
from evtsim.dtypes import Columns
from evtsim.errors import ArgumentError, EvtsimError
from evtsim.guest import Guest
from evtsim.host import Host
from evtsim.outcomes import FIELDS as OUTCOME_FIELDS
from evtsim.parts import Opener, PartFolder, deliveries_writer
from evtsim.progress import Shown, shown_progress
from evtsim.resuming import CheckpointFolder
from evtsim.run import Run
from evtsim.simulator import LEVELS, Simulator
from evtsim.trace import Trace, TraceReader, parquet
from evtsim.trace.chunk import CHUNK_RECORDS
from evtsim.trace.digest import Digest

if TYPE_CHECKING:
    from evtsim.simulator import Progress
    from evtsim.trace.files import Write

Piece = tuple[Trace, Digest]
"""Records that go by, and the digest of the trace up to their end."""

EVERY = 10_000_000
"""Records from one checkpoint to the next, if nobody says so."""

UNBOUNDED = 1 << 62
"""The most deliveries that are kept in a log that is emptied into part files."""


def replay_file(
    trace: str | os.PathLike[str] | Trace | TraceReader,
    host: Host | None = None,
    guest: Guest | None = None,
    stats: str | None = "port",
    *,
    outcomes: str | os.PathLike[str] | None = None,
    deliveries: str | os.PathLike[str] | int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int | None = None,
    resume: bool = False,
    drain: bool = False,
    progress: Shown = None,
    threads: int = 1,
    overwrite: bool = False,
) -> Run:
    """Replay a trace of any length in bounded memory.

    Parameters
    ----------
    trace : path-like, Trace or TraceReader
    host, guest, stats, drain, progress, threads
        As for :func:`replay`. A progress callable gets None for the total of a CSV file.
    outcomes : path-like, optional
        A folder for part files with the records and what each of them answered, as
        :meth:`Trace.load` reads them.
    deliveries : path-like or int, optional
        A folder for part files with every delivery, or how many to keep in the run.
    checkpoint : path-like, optional
        A folder for checkpoints.
    every : int, optional
        Records from one part and checkpoint to the next; 10 million if nothing is said, or what
        the replay that is resumed was begun with.
    resume : bool
        Go on from the newest checkpoint that is whole. What results is the same, byte for byte,
        as if the replay had never been interrupted. Without a checkpoint yet, begin.
    overwrite : bool
        Whether parts and checkpoints of another replay may be replaced.

    Returns
    -------
    Run
        Statistics and the state at the end. It has no outcomes: those are in the parts.

    Raises
    ------
    TraceError
        The trace cannot be read or is damaged. Parts and checkpoints of what came before stay.
    EvtsimError
        There are other results in the folders; or what is to be resumed is a replay of another
        trace, or was begun otherwise.

    Examples
    --------
    >>> import evtsim
    >>> run = evtsim.replay_file(evtsim.samples.path("mixed.parquet"))
    >>> run.records
    50000
    """
    if isinstance(trace, Trace):
        trace = TraceReader.of(trace, host)
    elif not isinstance(trace, TraceReader):
        trace = TraceReader(trace, host)
    with (
        shown_progress(progress, "replaying", "records") as show,
        LongReplay(
            trace,
            host,
            guest,
            stats,
            outcomes=outcomes,
            deliveries=deliveries,
            checkpoint=checkpoint,
            every=every,
            resume=resume,
            drain=drain,
            threads=threads,
            overwrite=overwrite,
        ) as work,
    ):
        return work.run(show)


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=2)


class LongReplay:
    """One replay piece by piece.

    It takes what :func:`replay_file` takes, and besides:

    Parameters
    ----------
    start : Simulator, optional
        Where to begin, instead of the start of the host.
    before : mapping, optional
        What a run says of what that has replayed; JSON-like.
    outputs : mapping, optional
        What the caller will write at the end; a replay that is resumed with the same may replace
        it (`owned`).
    notice : callable, optional
        Takes a line that the user should see; a warning if nothing is said.

    Attributes
    ----------
    sim : Simulator
    done : int
        Records of the trace that are applied, in this process or one before.
    applied : int
        Of them, in this process.
    parts : int
        Parts that are whole.
    """

    def __init__(
        self,
        reader: TraceReader,
        host: Host | None = None,
        guest: Guest | None = None,
        stats: str | None = "port",
        *,
        outcomes: str | os.PathLike[str] | None = None,
        deliveries: str | os.PathLike[str] | int | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        every: int | None = None,
        resume: bool = False,
        drain: bool = False,
        threads: int = 1,
        overwrite: bool = False,
        start: Simulator | None = None,
        before: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        notice: Callable[[str], None] = _warn,
    ) -> None:
        if every is not None and (not isinstance(every, (int, np.integer)) or every < 1):
            raise ArgumentError("every", every, "at least 1 record")
        if resume and checkpoint is None:
            raise EvtsimError("resume needs the folder of checkpoints (checkpoint=, --checkpoint)")
        self.reader = reader
        self.folders: dict[str, PartFolder] = {}
        if outcomes is not None:
            self.folders["outcomes"] = PartFolder(Path(outcomes))
        log = deliveries
        if isinstance(deliveries, (str, os.PathLike)):
            self.folders["deliveries"] = PartFolder(Path(deliveries))
            log = UNBOUNDED
        self.checkpoints = None if checkpoint is None else CheckpointFolder(Path(checkpoint))
        self._check_folders()
        self.sim = start or Simulator(
            reader.require_host(host),
            guest,
            stats,
            threads,
            deliveries=log,  # type: ignore[arg-type]
        )
        self.sim.check_start(reader)
        if drain and self.sim.guest is None:
            raise EvtsimError("drain lets a guest go on, and there is none (guest= gives one)")
        self.every = None if every is None else int(every)
        self.resume = resume
        self.drain = drain
        self.threads = threads
        self.overwrite = overwrite
        self.before = before
        self.outputs = dict(outputs or {})
        self.notice = notice
        self.owned = False
        self.done = self.applied = self.parts = 0
        self._digest = Digest()
        self._skip = 0
        self._skipped = ""
        self._finished = self._ran = False
        self._stack = contextlib.ExitStack()

    def _check_folders(self) -> None:
        """Raise an EvtsimError if two things would be written into one folder."""
        seen: dict[Path, str] = {}
        folders = {name: folder.path for name, folder in self.folders.items()}
        if self.checkpoints is not None:
            folders["checkpoint"] = self.checkpoints.path
        for name, path in folders.items():
            there = seen.setdefault(path.resolve(), name)
            if there != name:
                raise EvtsimError(f"{path}: cannot hold both {there} and {name}")

    # Beginning, going on -------------------------------------------------------------------------

    def __enter__(self) -> LongReplay:
        for folder in self.folders.values():
            folder.check()  # of all, before the first one is cleared
        with contextlib.ExitStack() as stack:
            sizes: Mapping[str, list[int]] | None = None
            if self.checkpoints is not None:
                stack.enter_context(
                    self.checkpoints.open(resume=self.resume, overwrite=self.overwrite)
                )
                sizes = self._go_on() if self.resume else None
            if sizes is None and self.every is None:
                self.every = EVERY
            for name, folder in self.folders.items():
                kept = None if sizes is None else sizes[name]
                stack.enter_context(folder.open(kept, overwrite=self.overwrite))
            if sizes is None:
                self._keep(0)  # what this is, from the first moment on
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _go_on(self) -> Mapping[str, list[int]] | None:
        """Take up the newest checkpoint, if any; return the sizes of the parts before it."""
        assert self.checkpoints is not None
        found = self.checkpoints.newest(self.notice)
        if found is None:
            return None
        state, progress = found
        self._compare(progress["plan"])
        if state.host != self.sim.host:
            raise EvtsimError(f"{self.checkpoints.path}: was begun with another host")
        self.every = progress["plan"]["every"]
        self.sim = Simulator._of(state, self.threads)
        self._skip = progress["records"]
        self.parts = progress["parts"]
        self._skipped = progress["digest"]
        self._finished = progress["finished"]
        self.owned = progress["outputs"] == self.outputs
        sizes: Mapping[str, list[int]] = progress["sizes"]
        return sizes

    def _plan(self) -> dict[str, Any]:
        """Return all that the results depend on besides records and host, by what it is called."""
        sim, reader = self.sim, self.reader
        plan = {
            "evtsim": __version__,
            "trace": {"records": reader.records, "first": reader.first, "meta": reader.meta},
            "guest": sim.guest.to_dict() if sim.guest else None,
            "stats": LEVELS[sim.state.level],
            "outcomes": "parts" if "outcomes" in self.folders else None,
            "deliveries": "parts"
            if "deliveries" in self.folders
            else sim.state.deliveries_kept or None,
            "drain": self.drain,
            "start": self.before,
            "every": self.every,
        }
        same: dict[str, Any] = json.loads(json.dumps(plan))
        return same

    def _compare(self, begun: Mapping[str, Any]) -> None:
        """Raise an EvtsimError if this is not what the replay was begun with."""
        assert self.checkpoints is not None
        for name, value in self._plan().items():
            if value == begun.get(name) or (name == "every" and value is None):
                continue
            where = self.checkpoints.path
            if name in ("trace", "guest", "start"):
                raise EvtsimError(f"{where}: was begun with another {name}")
            raise EvtsimError(f"{where}: was begun with {name} {begun.get(name)!r}, not {value!r}")

    # Running -------------------------------------------------------------------------------------

    def run(self, progress: Progress | None = None, write: Write | None = None) -> Run:
        """Replay what is left.

        Parameters
        ----------
        progress : callable, optional
            Called as ``progress(done, total)`` after every piece; total may be None.
        write : callable, optional
            Takes columns and outcomes of all that is applied now, 131,072 records at most.

        Raises
        ------
        EvtsimError
            It has run before, whether to the end or not, or the reader was read from.
        """
        if self._ran or self.reader.taken:
            raise EvtsimError("a replay runs once, and from the start of its reader (open others)")
        self._ran = True
        if not self._finished:
            self._begin_part(self._skip)
        with contextlib.closing(self._read()) as pieces:
            for piece, digest in pieces:
                if self.done < self._skip:
                    self._pass_by(piece, digest)
                else:
                    self._apply(piece, digest, write)
                if progress is not None:
                    progress(self.done, self.reader.records)  # type: ignore[arg-type]
        if self.done < self._skip:
            raise self._another_trace()
        if not self._finished:
            if self.drain:
                self.sim.drain()
                self._write_deliveries()
            self._end_part(finished=True)
        if "deliveries" in self.folders:
            self.sim.state.drop_deliveries()
        source = self.reader.source(self._digest.of(self.reader.host))
        if self.before is not None:
            source["before"] = self.before
        places = {name: str(folder.path) for name, folder in self.folders.items()}
        return Run(self.sim.host, self.sim.state, source=source, parts=places)

    def _read(self) -> Generator[Piece]:
        """Yield all pieces; with threads, the next one is read meanwhile.

        But not of a pipe: a thread that waits for it could not be ended.
        """
        pieces, path = self._pieces(), self.reader.path
        ahead = self.threads > 1 and path is not None and Path(path).is_file()
        yield from _read_ahead(pieces) if ahead else pieces

    def _pieces(self) -> Iterator[Piece]:
        """Read the trace in pieces as the simulator likes them, each with the digest up to its end.

        They end at multiples of their length, where parts end and where the checkpoint was,
        whatever the file's own pieces are.
        """
        assert self.every is not None
        size, digest, done = self.sim.stretch, Digest(), 0
        while True:
            end = min((done // length + 1) * length for length in (size, self.every))
            if done < self._skip:
                end = min(done + size, self._skip)
            piece = self.reader.take(end - done)
            if not len(piece):
                return
            digest.update(piece.columns)
            done += len(piece)
            yield piece, digest.copy()

    def _pass_by(self, piece: Trace, digest: Digest) -> None:
        """Pass records by that were applied before, once it is clear that they are the same."""
        self._digest = digest
        self.done += len(piece)
        if self.done == self._skip and digest.of(self.reader.host) != self._skipped:
            raise self._another_trace()

    def _another_trace(self) -> EvtsimError:
        assert self.checkpoints is not None
        return EvtsimError(
            f"{self.checkpoints.path}: was begun with another trace: the first {self._skip:,} "
            f"records of {self.reader.path or 'this one'} are not those that were replayed"
        )

    def _apply(self, piece: Trace, digest: Digest, write: Write | None) -> None:
        if self._finished:
            assert self.checkpoints is not None
            raise EvtsimError(
                f"{self.checkpoints.path}: was finished after {self._skip:,} records, and "
                f"{self.reader.path or 'the trace'} has more now (--force starts anew)"
            )
        if self.done == (self.parts + 1) * (self.every or EVERY):
            self._end_part(finished=False)
            self._begin_part(self.done)
        self._digest = digest
        folder = self.folders.get("outcomes")
        into = None if folder is None else folder.write
        outcomes = self.sim.apply(piece, write is not None or into is not None)
        if outcomes is not None:
            for part in self._rows(len(piece)):
                columns = Columns(*(column[part] for column in piece.columns))
                for take in (write, into):
                    if take is not None:
                        take(columns, outcomes[part])
        self._write_deliveries()
        self.done += len(piece)
        self.applied += len(piece)

    def _rows(self, count: int) -> Iterator[slice]:
        """Cut the next records where row groups end, whatever the simulator takes at a time."""
        begin = 0
        while begin < count:
            end = min(count, begin + CHUNK_RECORDS - (self.done + begin) % CHUNK_RECORDS)
            yield slice(begin, end)
            begin = end

    # Parts ---------------------------------------------------------------------------------------

    def _begin_part(self, done: int) -> None:
        """Begin a part in every folder, after so many records of the trace."""
        reader = self.reader
        meta = {**reader.meta, "outcomes_by": f"evtsim {__version__}"}
        openers: dict[str, Opener] = {
            "outcomes": lambda path: parquet.writer(
                path, self.sim.host, meta, OUTCOME_FIELDS, reader.first + done
            ),
            "deliveries": deliveries_writer,
        }
        for name, folder in self.folders.items():
            folder.begin(openers[name])

    def _write_deliveries(self) -> None:
        """Write what was delivered since the last time; the domains have all caught up."""
        folder = self.folders.get("deliveries")
        if folder is not None and folder.write is not None:
            folder.write(self.sim.state.take_deliveries())

    def _end_part(self, *, finished: bool) -> None:
        """End the part in every folder, and then keep where the replay is."""
        for folder in self.folders.values():
            folder.finish()
        self.parts += 1
        self._keep(self.done, finished=finished)

    def _keep(self, records: int, *, finished: bool = False) -> None:
        """Write a checkpoint, if there is a folder for it."""
        if self.checkpoints is None:
            return
        progress = {
            "plan": self._plan(),
            "outputs": self.outputs,
            "records": records,
            "digest": self._digest.of(self.reader.host),
            "parts": self.parts,
            "sizes": {name: folder.sizes for name, folder in self.folders.items()},
            "finished": finished,
        }
        self.checkpoints.add(self.parts, self.sim.state, progress)


def _read_ahead(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Have a thread of its own make each piece while somebody is at work on the one before."""
    with ThreadPoolExecutor(1, "evtsim-reader") as thread:
        coming = thread.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = thread.submit(next, pieces, None)
            yield piece
