"""The sample traces that come with evtsim."""

from __future__ import annotations

from pathlib import Path

from evtsim.errors import EvtsimError

_HERE = Path(__file__).parent
# A wheel carries the folder inside the package; in a checkout it lies beside it.
FOLDERS = (_HERE / "_traces", _HERE.parent / "traces")


def path(name: str) -> Path:
    """Return the path of a sample trace by its file's name."""
    for folder in FOLDERS:
        if (folder / name).is_file():
            return folder / name
    raise EvtsimError(f"no sample trace {name!r}")
