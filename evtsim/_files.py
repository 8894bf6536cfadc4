"""Writing files so that nothing is ever half-written."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from evtsim.errors import EvtsimError


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[Path]:
    """Give a temporary path beside the wanted one, which takes its place if all goes well.

    Parameters
    ----------
    path : path-like
        Where the file shall be in the end.
    overwrite : bool
        Whether a file that is there already may be replaced.

    Yields
    ------
    Path
        What to write to. It has the wanted path's suffixes, since some writers look at them.

    Raises
    ------
    EvtsimError
        The file exists and may not be replaced, or cannot be written.
    """
    target = Path(path).resolve()  # a link stays one
    if target.exists() and not target.is_file() and not target.is_dir():
        yield target  # a pipe or a device is written to, not replaced
        return
    if target.is_dir():
        raise EvtsimError(f"{path}: is a folder (expected a file to write)")
    if target.exists() and not overwrite:
        raise EvtsimError(f"{path}: exists already (--force replaces it)")
    try:
        handle, name = tempfile.mkstemp(
            prefix=".", suffix="~" + "".join(target.suffixes), dir=target.parent
        )
    except OSError as error:
        raise EvtsimError(f"{path}: {error.strerror}") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    except OSError as error:
        raise EvtsimError(f"{path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)
