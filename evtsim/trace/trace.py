"""Trace: a sequence of records with the host they belong to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim.dtypes import RECORD_DTYPE, Columns
from evtsim.errors import HostError, TraceError, shown
from evtsim.host import Host
from evtsim.outcomes import FIELDS as OUTCOME_FIELDS
from evtsim.outcomes import Outcomes
from evtsim.trace import columns as door
from evtsim.trace.chunk import CHUNK_RECORDS, Chunk, Cutter, Loaded, cut, join
from evtsim.trace.columns import FIELDS, OUT_PREFIX, Place
from evtsim.trace.digest import Digest

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.dtypes import Array
    from evtsim.trace.validation import Validation


class Trace:
    """Records of hypercalls and of what happens around them, by time.

    Made by :meth:`load`, :meth:`from_records`, :meth:`from_frame`, :class:`TraceBuilder` or
    :func:`evtsim.workloads.generate`; never changed afterwards.

    Attributes
    ----------
    ts : ndarray of uint64
        ns; never decreases.
    dom, vcpu, op, flags : ndarray of uint16
        Caller (or the domain acted on), abi.Op, abi.Fault.
    arg0, arg1 : ndarray of uint32
        The operation's arguments, as abi.OP_ARGS names them.
    host : Host or None
    recorded : Outcomes or None
        What the recorded system answered.
    meta : dict
        Provenance: JSON-like data.
    """

    def __init__(
        self,
        chunks: Sequence[Chunk],
        host: Host | None = None,
        meta: Mapping[str, Any] | None = None,
        *,
        path: str | None = None,
        first: int = 0,
    ) -> None:
        if host is not None and not isinstance(host, Host):
            raise HostError(f"host is {shown(host)} (expected an evtsim.Host)")
        try:
            json.dumps(meta if meta is None else dict(meta))
        except (TypeError, ValueError) as error:
            raise TraceError(f"meta is not JSON-like ({error})") from None
        self._chunks = list(chunks)
        self.host = host
        self.meta: dict[str, Any] = dict(meta or {})
        self.path = path
        self.first = first

    # Making --------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: str | os.PathLike[str], host: Host | None = None) -> Trace:
        """Open a trace file by its suffix.

        Parameters
        ----------
        path : path-like
            ``.arrow`` (Arrow IPC, memory-mapped), ``.parquet``, ``.csv``, ``.csv.gz``, or ``-``
            for CSV on stdin.
        host : Host, optional
            Overrides the file's own.

        Raises
        ------
        TraceError
            The file cannot be read or is damaged. Of an Arrow or Parquet file the records are
            checked as they are used.
        """
        from evtsim.trace import files

        contents = files.read(path)
        return cls(
            list(contents.chunks),
            host or contents.host,
            contents.meta,
            path=os.fspath(path),
            first=contents.first,
        )

    @classmethod
    def from_records(
        cls,
        records: Array,
        host: Host | None = None,
        recorded: Outcomes | Array | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Trace:
        """Make a trace of a structured array with the fields of RECORD_DTYPE.

        Parameters
        ----------
        records : structured ndarray, 1-D
            Copied. Without flags nothing fails; arg0 and arg1 may be missing where no record's
            operation takes them.
        host : Host, optional
        recorded : Outcomes, or structured ndarray, optional
            What each record answered; of an array, fields of OUTCOME_DTYPE are taken.
        meta : mapping, optional
            Provenance.
        """
        place = Place()
        door.require(_field_names(records, "records"), place)
        source: dict[str, Any] = {n: records[n].copy() for n in FIELDS if n in records.dtype.names}
        if recorded is not None:
            pairs = (
                recorded.fields()
                if isinstance(recorded, Outcomes)
                else (
                    (n, recorded[n])
                    for n in OUTCOME_FIELDS
                    if n in _field_names(recorded, "recorded")
                )
            )
            source.update((OUT_PREFIX + name, column.copy()) for name, column in pairs)
        return cls([Chunk.of(*door.fit_all(source, place, door.fit_array))], host, meta)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        host: Host | None = None,
        columns: Mapping[str, str] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Trace:
        """Make a trace of a DataFrame.

        Parameters
        ----------
        frame : DataFrame
            Columns ts, dom, vcpu, op (number or name), flags, arg0, arg1; recorded outcomes in
            out_rc, out_port and so on. Without flags nothing fails; arg0 and arg1 may be missing
            where no record's operation takes them.
        host : Host, optional
        columns : mapping, optional
            Which column of the frame holds a field, where their names differ:
            ``{"arg0": "my_port_column"}``.
        meta : mapping, optional
            Provenance.
        """
        names = {name: name for name in door.COLUMN_DTYPES} | dict(columns or {})
        for field, name in (columns or {}).items():
            if field not in door.COLUMN_DTYPES or name not in frame:
                raise TraceError(
                    "no such column", field=field, value=name, expected=", ".join(map(str, frame))
                )
        # Copies: who goes on to edit the frame does not edit the trace.
        source = {
            field: frame[name].to_numpy(copy=True) for field, name in names.items() if name in frame
        }
        return cls([Chunk.of(*door.fit_all(source, Place(), door.fit_array))], host, meta)

    @classmethod
    def concat(cls, traces: Sequence[Trace]) -> Trace:
        """Put traces of one host end to end; each must begin where the one before ended, or later.

        Recorded outcomes stay, in the fields that every trace has, unless the traces are slices
        between which records are missing.
        """
        traces = list(traces)
        host = _common_host(traces)
        filled = [trace for trace in traces if len(trace)]
        names = _common_recorded(filled)
        chunks = [chunk.keeping(names) for trace in filled for chunk in trace._chunks]
        first = filled[0].first if filled else 0
        joined = cls(chunks, host, _common_meta("concat", traces), first=first)
        for _ in joined.stretches():  # time must not run backwards where they meet
            pass
        return joined

    @classmethod
    def merge(cls, traces: Sequence[Trace]) -> Trace:
        """Put the records of several traces of one host in the order of their ts.

        Equal ts keep the order of the traces. Recorded outcomes are left out: they were
        answers to another sequence.
        """
        traces = list(traces)
        host = _common_host(traces)
        parts = [trace.columns for trace in traces]
        ts = np.concatenate([part.ts for part in parts])
        order = np.argsort(ts, kind="stable")
        merged = {
            name: np.concatenate([getattr(part, name) for part in parts])[order] for name in FIELDS
        }
        columns, _ = door.fit_all(merged, Place(), door.fit_array)
        return cls([Chunk.of(columns)], host, _common_meta("merge", traces))

    # Columns -------------------------------------------------------------------------------------

    @property
    def columns(self) -> Columns:
        """All columns, each contiguous and read-only; reads the file if there is one."""
        return self._whole()[0]

    @property
    def recorded(self) -> Outcomes | None:
        """What each record answered where it was recorded, or None."""
        return self._whole()[1] if self._chunks else None

    @property
    def ts(self) -> Array:
        """Time of each record, ns."""
        return self.columns.ts

    @property
    def dom(self) -> Array:
        """Calling domain, or the one acted on."""
        return self.columns.dom

    @property
    def vcpu(self) -> Array:
        """Calling vcpu."""
        return self.columns.vcpu

    @property
    def op(self) -> Array:
        """Operation, abi.Op."""
        return self.columns.op

    @property
    def flags(self) -> Array:
        """Faults, abi.Fault."""
        return self.columns.flags

    @property
    def arg0(self) -> Array:
        """First argument."""
        return self.columns.arg0

    @property
    def arg1(self) -> Array:
        """Second argument."""
        return self.columns.arg1

    def _whole(self) -> tuple[Columns, Outcomes | None]:
        if not self._chunks:
            empty = np.zeros(0, RECORD_DTYPE)
            source = {name: empty[name] for name in FIELDS}
            self._chunks = [Chunk.of(*door.fit_all(source, Place(), door.fit_array))]
        elif len(self._chunks) > 1:
            self._chunks = [Chunk.of(*join([chunk.load() for chunk in self._chunks]))]
        loaded = self._chunks[0].load()
        self._chunks = [Chunk.of(*loaded)]  # a Parquet file would be read anew each time
        return loaded

    def stretches(
        self, size: int = CHUNK_RECORDS, *, joined: bool = False
    ) -> Iterator[tuple[int, Columns, Outcomes | None]]:
        """Walk the trace in pieces, each checked against damage and time running backwards.

        Parameters
        ----------
        size : int
            The most records in a piece.
        joined : bool
            Whether to copy what lies in shorter pieces, so that all but the last have that many.

        Yields
        ------
        start : int
            Number of the piece's first record in this trace.
        columns : Columns
        recorded : Outcomes or None
        """
        start = 0
        for columns, recorded in self._joined(size) if joined else self._checked():
            for begin in range(0, len(columns.ts), size):
                yield start + begin, *cut((columns, recorded), slice(begin, begin + size))
            start += len(columns.ts)

    def _checked(self) -> Iterator[Loaded]:
        """Walk the trace as it lies there."""
        start = last = 0
        for chunk in self._chunks:
            for columns, recorded in chunk.walk():
                last = door.check_order(columns.ts, last, Place(self.path, self.first + start))
                yield columns, recorded
                start += len(columns.ts)

    def _joined(self, size: int) -> Iterator[Loaded]:
        cutter = Cutter(self._checked())
        while stretches := cutter.take(size):
            yield join(stretches)

    def __len__(self) -> int:
        return sum(chunk.records for chunk in self._chunks)

    def __getitem__(self, records: slice) -> Trace:
        if not isinstance(records, slice):
            raise TypeError("a trace is indexed by slices; trace.frame() shows single records")
        start, stop, step = records.indices(len(self))
        if step != 1:
            raise ValueError("a trace is cut without leaving records out (step 1)")
        chunks, begin = [], 0
        for chunk in self._chunks:
            low, high = max(start - begin, 0), min(stop - begin, chunk.records)
            if low < high:
                whole = low == 0 and high == chunk.records
                chunks.append(chunk if whole else chunk[low:high])
            begin += chunk.records
        return Trace(chunks, self.host, self.meta, path=self.path, first=self.first + start)

    def frame(self) -> pd.DataFrame:
        """Return a DataFrame: the columns, a categorical op_name, recorded outcomes as out_*."""
        import pandas as pd

        from evtsim.frames import op_names

        columns, recorded = self._whole()
        frame = pd.DataFrame(columns._asdict(), copy=True)  # the trace's own are read-only
        frame.insert(FIELDS.index("op") + 1, "op_name", op_names(columns.op))  # type: ignore[arg-type]
        for name, column in recorded.fields() if recorded else ():
            frame[OUT_PREFIX + name] = column.copy()
        return frame

    # Keeping -------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Write a trace file by its suffix, as :meth:`load` reads it, whole or not at all.

        ``-`` is CSV on stdout.
        """
        from evtsim.trace import files

        recorded = self._chunks[0].load()[1] if self._chunks else None
        names = [name for name, _ in recorded.fields()] if recorded else []
        with files.writer(
            path, self.host, self.meta, names, self.first, overwrite=overwrite
        ) as write:
            for _, columns, outcomes in self.stretches():
                write(columns, outcomes)

    def digest(self) -> str:
        """Identify the trace: sha256, over a sha256 of each column and the canonical host JSON.

        Does not depend on the file's format, on chunks, provenance or recorded outcomes.
        """
        digest = Digest()
        for _, columns, _ in self.stretches():
            digest.update(columns)
        return digest.of(self.host)

    def validate(self) -> Validation:
        """Look for errors, and note what the host will answer with an errno."""
        from evtsim.trace.validation import validate

        return validate(self)

    def require_host(self, host: Host | None = None) -> Host:
        """Return the host given, or the trace's own; a HostError if there is neither."""
        chosen = host or self.host
        if chosen is None:
            raise HostError(
                f"{self.path or 'trace'}: does not say its host "
                "(give one: host=, --host FILE, or guess it with Host.infer(trace))"
            )
        return chosen

    def __repr__(self) -> str:
        source = f" from {Path(self.path).name}" if self.path else ""
        return f"<Trace of {len(self):,} records{source}, host {self.host!r}>"

    def _repr_html_(self) -> str:
        head = self[:8].frame()._repr_html_()  # type: ignore[operator]
        title = f"<b>Trace</b> of {len(self):,} records; {repr(self.host).strip('<>')}"
        return f"{title}{head}"


def _common_host(traces: Sequence[Trace]) -> Host | None:
    if not traces:
        raise TraceError("no traces", expected="at least one")
    host = traces[0].host
    if any(trace.host != host for trace in traces):
        raise HostError("traces of different hosts cannot be put together")
    return host


def _common_meta(how: str, traces: Sequence[Trace]) -> dict[str, Any]:
    return {"made_by": how, "of": [trace.meta for trace in traces]}


def _common_recorded(traces: Sequence[Trace]) -> list[str]:
    """Return the recorded fields that traces have in common and that still mean something."""
    position = traces[0].first if traces else 0
    common = list(OUTCOME_FIELDS)
    for trace in traces:
        if trace.first not in (0, position):  # records are missing in front of it
            return []
        recorded = trace[:1].recorded
        present = dict(recorded.fields()) if recorded is not None else {}
        common = [name for name in common if name in present]
        position += len(trace)
    return common


def _field_names(array: Any, what: str) -> tuple[str, ...]:
    """Return the fields of a structured array; a TraceError if it is none."""
    names = getattr(getattr(array, "dtype", None), "names", None)
    if names is None:
        raise TraceError(f"{what}: a {type(array).__name__}", expected="a structured array")
    return tuple(names)
