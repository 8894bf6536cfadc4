"""Checkpoints: everything a simulator knows, in one file.

A line that says what it is, a sha256, and what that is of: numpy's zip of one member a table and
a JSON header.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from evtsim import __version__
from evtsim._files import written_whole
from evtsim.dtypes import Array, Tables
from evtsim.errors import EvtsimError
from evtsim.host import Host
from evtsim.state import POOL, State

KIND = b"evtsim checkpoint "
MAGIC = KIND + b"1\n"


def save(
    path: str | os.PathLike[str],
    host: Host,
    tables: Mapping[str, Array],
    *,
    overwrite: bool = True,
) -> None:
    """Write a checkpoint, whole or not at all."""
    header = {"version": __version__, "host": host.to_dict()}
    text = np.frombuffer(json.dumps(header, sort_keys=True).encode(), np.uint8)
    body = io.BytesIO()
    np.savez(body, header=text, **tables)  # type: ignore[arg-type]
    with written_whole(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        file.write(MAGIC + hashlib.sha256(body.getbuffer()).digest())
        file.write(body.getbuffer())


def load(path: str | os.PathLike[str]) -> tuple[Host, dict[str, Array]]:
    """Read a checkpoint: its host and tables.

    Raises
    ------
    EvtsimError
        The file is no checkpoint, damaged, or of another version of the format.
    """
    name = os.fspath(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise EvtsimError(f"{name}: {error.strerror}") from None
    if not data.startswith(KIND):
        raise EvtsimError(f"{name}: not a checkpoint of evtsim")
    if not data.startswith(MAGIC):
        raise EvtsimError(f"{name}: a checkpoint of another version's format")
    start = len(MAGIC) + hashlib.sha256().digest_size
    if hashlib.sha256(data[start:]).digest() != data[len(MAGIC) : start]:
        raise EvtsimError(f"{name}: damaged: it does not match its checksum")
    with np.load(io.BytesIO(data[start:]), allow_pickle=False) as members:
        header = json.loads(bytes(members["header"]))
        tables = {field: members[field] for field in Tables._fields if field in members}
    host = Host.from_dict(header["host"], source=name)
    _check_shapes(name, host, tables)
    return host, tables


def _check_shapes(name: str, host: Host, tables: Mapping[str, Array]) -> None:
    """Raise an EvtsimError unless the tables are of the shapes that the host's have.

    Kernels trust them. Only the pool, by doubling, and the edges may have grown.
    """
    fresh = State(host, int(tables["host"]["level"][0]))
    for field, wanted in fresh.snapshot().items():
        table = tables.get(field)
        fits = table is not None and table.dtype == wanted.dtype
        if fits and field in POOL and len(wanted) == len(fresh.tables.ports):
            growth, rest = divmod(len(table), len(wanted))  # type: ignore[arg-type]
            fits = rest == 0 and growth.bit_count() == 1 and len(table) == len(tables["ports"])  # type: ignore[arg-type]
        elif fits and field != "edges":
            fits = table.shape == wanted.shape  # type: ignore[union-attr]
        if not fits:
            raise EvtsimError(f"{name}: not a whole checkpoint (its table {field})")
