"""Checkpoints: everything a simulator knows, in one file.

A zip of ``.npy`` members, one a table, and a JSON header; zip keeps a CRC-32 of each.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from evtsim import __version__
from evtsim._files import written_whole
from evtsim.dtypes import Array, Tables
from evtsim.errors import EvtsimError, HostError
from evtsim.host import Host
from evtsim.state import State

KIND = "evtsim checkpoint"
FORMAT = 1


def save(
    path: str | os.PathLike[str],
    host: Host,
    tables: Mapping[str, Array],
    *,
    overwrite: bool = True,
) -> None:
    """Write a checkpoint, whole or not at all."""
    header = {"kind": KIND, "format": FORMAT, "version": __version__, "host": host.to_dict()}
    text = np.frombuffer(json.dumps(header, sort_keys=True).encode(), np.uint8)
    with (
        written_whole(path, overwrite=overwrite) as temporary,
        temporary.open("wb") as file,
    ):
        np.savez(file, header=text, **tables)  # type: ignore[arg-type]


def load(path: str | os.PathLike[str]) -> tuple[Host, dict[str, Array]]:
    """Read a checkpoint: its host and tables.

    Raises
    ------
    EvtsimError
        The file is no checkpoint, damaged, or of another version of the format.
    """
    name = os.fspath(path)
    try:
        # opened here, since numpy leaves a file open that it cannot read
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as members:
            header = json.loads(bytes(members["header"]))
            tables = {field: members[field] for field in Tables._fields if field in members}
    except FileNotFoundError:
        raise EvtsimError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise EvtsimError(f"{name}: is a folder (expected a checkpoint)") from None
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        TypeError,
        AttributeError,
        NotImplementedError,
        SyntaxError,
        RuntimeError,
        MemoryError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise EvtsimError(f"{name}: not a whole checkpoint ({reason})") from None
    if not isinstance(header, dict) or header.get("kind") != KIND:
        raise EvtsimError(f"{name}: not a checkpoint of evtsim")
    if header.get("format") != FORMAT:
        raise EvtsimError(
            f"{name}: format {header.get('format')} of evtsim {header.get('version')} "
            f"(expected format {FORMAT})"
        )
    try:
        host = Host.from_dict(header["host"])
    except HostError as error:
        raise EvtsimError(f"{name}: {error}") from None
    _check_shapes(name, host, tables)
    return host, tables


def _check_shapes(name: str, host: Host, tables: Mapping[str, Array]) -> None:
    """Raise an EvtsimError unless the tables are of the shapes that the host's have.

    Kernels trust them. Only the pool may have grown, by doubling.
    """
    for field, fresh in State(host).tables._asdict().items():
        table = tables.get(field)
        fits = table is not None and table.dtype == fresh.dtype
        if fits and field == "ports":
            growth, rest = divmod(len(table), len(fresh))  # type: ignore[arg-type]
            fits = rest == 0 and growth.bit_count() == 1
        elif fits:
            fits = table.shape == fresh.shape  # type: ignore[union-attr]
        if not fits:
            raise EvtsimError(f"{name}: not a whole checkpoint (its table {field})")
