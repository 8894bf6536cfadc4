"""What evtsim's files say of themselves besides their records, and how damage to it shows.

Arrow and Parquet files carry two entries of metadata: a JSON text, and a CRC-32 of that text.
A file with neither is a stranger's and taken as it is.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from evtsim import __version__
from evtsim.errors import HostError, TraceError
from evtsim.host import Host

FORMAT = 1
KEY = b"evtsim"
CRC_KEY = b"evtsim.crc32"

Metadata = Mapping[bytes, bytes]


def encode(host: Host | None, meta: Mapping[str, Any], first: int) -> dict[bytes, bytes]:
    """Return the metadata entries of a new file, whose first record was `first` of its trace."""
    text = json.dumps(
        {
            "format": FORMAT,
            "version": __version__,
            "host": host and host.to_dict(),
            "meta": dict(meta),
            "first": first,
        },
        sort_keys=True,
    ).encode()
    return {KEY: text, CRC_KEY: str(zlib.crc32(text)).encode()}


def start_digest(meta: Mapping[str, Any]) -> str | None:
    """Return the digest of the state that a trace goes on from, by its provenance; mostly None."""
    start, parts = meta.get("start"), meta.get("of")
    if isinstance(start, dict) and isinstance(start.get("digest"), str):
        return str(start["digest"])
    if isinstance(parts, list) and parts and isinstance(parts[0], dict):  # traces put together
        return start_digest(parts[0])
    return None  # what users put there is theirs


def damaged(path: str, what: str) -> TraceError:
    """Make the error for a file of ours whose bytes have changed."""
    return TraceError(f"damaged: {what}", path=path)


def is_ours(metadata: Metadata | None) -> bool:
    """Tell a file of ours from a stranger's, even if a bit of one of the keys has changed."""
    return any(
        len(key) == len(ours) and sum(a != b for a, b in zip(key, ours, strict=True)) <= 1
        for key in metadata or ()
        for ours in (KEY, CRC_KEY)
    )


def decode(metadata: Metadata | None, path: str) -> tuple[Host | None, dict[str, Any], int]:
    """Read the metadata entries of a file: host, provenance, number of the first record.

    Raises
    ------
    TraceError
        They are damaged, or of a later format.
    """
    if not is_ours(metadata):
        return None, {}, 0
    assert metadata is not None
    text = metadata.get(KEY)
    if text is None or metadata.get(CRC_KEY) != str(zlib.crc32(text)).encode():
        raise damaged(path, "its header does not match its checksum")
    data = json.loads(text)
    if not data.keys() >= {"format", "version", "host", "meta"}:
        raise damaged(path, "its header is not complete")
    if data["format"] > FORMAT:
        raise TraceError(
            f"format {data['format']} of evtsim {data['version']}",
            path=path,
            expected=f"format {FORMAT}; a newer evtsim reads this file",
        )
    try:
        host = None if data["host"] is None else Host.from_dict(data["host"])
    except HostError as error:
        raise TraceError(f"its host: {error}", path=path) from None
    return host, data["meta"], int(data.get("first", 0))
