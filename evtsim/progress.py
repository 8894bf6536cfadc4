"""Progress bars for those who ask for one with ``progress=True``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeAlias

from evtsim.simulator import Progress

Shown: TypeAlias = Progress | bool | None
"""What a ``progress`` argument takes: a callable, or True for a bar."""


@contextlib.contextmanager
def shown_progress(progress: Shown, what: str, unit: str) -> Iterator[Progress | None]:
    """Give a callable that shows (done, total): the caller's own, or a bar's.

    The bar is tqdm's, which suits a notebook in a notebook and a terminal elsewhere.
    """
    if not isinstance(progress, bool):
        yield progress
    elif not progress:
        yield None
    else:
        from tqdm.auto import tqdm

        with tqdm(desc=what, unit=f" {unit}") as bar:

            def show(done: int, total: int | None) -> None:  # None: of a file that does not say
                bar.total, bar.unit_scale = total, total is None or total >= 10_000
                bar.update(done - bar.n)

            yield show
