"""Part files: results too long for one file, as a folder of Parquet files, one after the other.

A part is written under a hidden name without a suffix, which readers of datasets pass over, and
gets its own when it is whole and the disk has it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evtsim._files import folder_made, held, naming, sync
from evtsim.errors import EvtsimError

if TYPE_CHECKING:
    from evtsim.dtypes import Array

PART = re.compile(r"part-\d{6,}\.parquet")
UNFINISHED = re.compile(r"\.part-\d{6,}\.parquet~")
"""Names of parts, and of the one that is being written: no other file is ever touched."""

Opener = Callable[[str], AbstractContextManager[Callable[..., None]]]
"""Begins a file of this name; what it gives takes the rows."""


class PartFolder:
    """A folder of part files, of which one at a time is being written.

    Parameters
    ----------
    path : path-like
        Made if need be.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.sizes: list[int] = []
        self._writer: AbstractContextManager[Callable[..., None]] | None = None
        self._write: Callable[..., None] | None = None

    @contextlib.contextmanager
    def open(self, sizes: Sequence[int] | None, *, overwrite: bool = False) -> Iterator[None]:
        """Hold the folder, with the parts that are to stay there and no others.

        Parameters
        ----------
        sizes : sequence of int or None
            Of the parts that stay, in bytes; None: nothing of another replay may be there.
        overwrite : bool
            Whether another replay's parts may be removed.

        Raises
        ------
        EvtsimError
            Parts are missing, there are other files, or another process writes here.
        """
        folder_made(self.path)
        with held(self.path):
            self._clear(sizes, overwrite)
            self.sizes = list(sizes or [])
            try:
                yield
            finally:
                self._abort()

    def check(self) -> None:
        """Raise an EvtsimError if the folder has files that are no parts."""
        if self.path.is_dir():
            for path in sorted(self.path.iterdir()):
                if not PART.fullmatch(path.name) and not UNFINISHED.fullmatch(path.name):
                    raise EvtsimError(
                        f"{self.path}: has other files, {path.name} (expected part files)"
                    )

    def _clear(self, sizes: Sequence[int] | None, overwrite: bool) -> None:
        self.check()
        here = sorted(self.path.iterdir())
        parts = [path for path in here if PART.fullmatch(path.name)]
        unfinished = [path for path in here if UNFINISHED.fullmatch(path.name)]
        if sizes is None and parts and not overwrite:
            raise EvtsimError(f"{self.path}: holds part files already (--force replaces them)")
        for number, size in enumerate(sizes or ()):
            part = self._part(number)
            if not part.is_file() or part.stat().st_size != size:
                raise EvtsimError(f"{part}: not what was written here (expected {size:,} bytes)")
        kept = {self._part(number) for number in range(len(sizes or ()))}
        for path in (*unfinished, *parts):
            if path not in kept:
                path.unlink()

    def begin(self, opener: Opener) -> None:
        """Begin the next part."""
        with naming(self.path):
            self._writer = opener(str(self._unfinished()))
            self._write = self._writer.__enter__()

    @property
    def write(self) -> Callable[..., None] | None:
        """What takes rows of the part that is being written; None between parts."""
        return None if self._write is None else self._take

    def _take(self, *rows: Any) -> None:
        assert self._write is not None
        with naming(self.path):
            self._write(*rows)

    def finish(self) -> None:
        """End the part that is being written, and give it its name."""
        assert self._writer is not None
        unfinished, part = self._unfinished(), self._part(len(self.sizes))
        with naming(self.path):
            self._writer.__exit__(None, None, None)
            self._writer = self._write = None
            sync(unfinished)
            unfinished.replace(part)
            sync(self.path)
            self.sizes.append(part.stat().st_size)

    def _abort(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(Exception):  # what went wrong is told already
                self._writer.__exit__(None, None, None)
            self._unfinished().unlink(missing_ok=True)
            self._writer = self._write = None

    def _part(self, number: int) -> Path:
        return self.path / f"part-{number:06}.parquet"

    def _unfinished(self) -> Path:
        return self.path / f".part-{len(self.sizes):06}.parquet~"


@contextlib.contextmanager
def deliveries_writer(path: str) -> Iterator[Callable[[Array], None]]:
    """Write deliveries, of DELIVERY, with the columns of `run.deliveries`, a row group a call."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from evtsim.dtypes import DELIVERY
    from evtsim.statistics import delivery_frame

    schema = pa.Schema.from_pandas(delivery_frame(np.zeros(0, DELIVERY)), preserve_index=False)
    times = ("ts", "raised_ts")
    options: dict[str, Any] = {
        "compression": "zstd",
        "write_page_checksum": True,
        "use_dictionary": [name for name in schema.names if name not in times],
        "column_encoding": dict.fromkeys(times, "DELTA_BINARY_PACKED"),
    }
    with pq.ParquetWriter(path, schema, **options) as out:

        def write(rows: Array) -> None:
            if len(rows):
                table = pa.Table.from_pandas(
                    delivery_frame(rows), schema, preserve_index=False, nthreads=1
                )
                out.write_table(table, row_group_size=len(rows))

        yield write
