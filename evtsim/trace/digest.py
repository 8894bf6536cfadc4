"""What "the same trace" means: a sha256 that depends on nothing but the records and the host."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from evtsim.trace.columns import FIELDS

if TYPE_CHECKING:
    from evtsim.dtypes import Columns
    from evtsim.host import Host


class Digest:
    """The digest of a trace, while its records go by.

    It does not depend on how the records are cut into stretches.
    """

    def __init__(self) -> None:
        self._columns = [hashlib.sha256() for _ in FIELDS]

    def update(self, columns: Columns) -> None:
        """Take in the next stretch."""
        for digest, column in zip(self._columns, columns, strict=True):
            little = column.astype(column.dtype.newbyteorder("<"), copy=False)
            digest.update(little.view(np.uint8).data)

    def copy(self) -> Digest:
        """Return one of the records so far, which stays so."""
        same = Digest()
        same._columns = [column.copy() for column in self._columns]
        return same

    def of(self, host: Host | None) -> str:
        """Return the digest of the records so far, on this host."""
        whole = hashlib.sha256(b"".join(digest.digest() for digest in self._columns))
        whole.update(host.to_json_text().encode() if host else b"")
        return whole.hexdigest()
