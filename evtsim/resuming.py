"""A folder of checkpoints: the newest whole one is gone on from, and the one before is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evtsim import checkpoint
from evtsim._files import folder_made, held, sweep
from evtsim.errors import EvtsimError
from evtsim.state import State


class CheckpointFolder:
    """Checkpoints of one replay, numbered by the parts that are whole.

    Parameters
    ----------
    path : path-like
        Made if need be.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @contextlib.contextmanager
    def open(self, *, resume: bool, overwrite: bool = False) -> Iterator[None]:
        """Hold the folder.

        Parameters
        ----------
        resume : bool
            Whether to go on from what is there.
        overwrite : bool
            Whether checkpoints of another replay may be removed, if not.

        Raises
        ------
        EvtsimError
            There are checkpoints already, or another process writes here.
        """
        folder_made(self.path)
        with held(self.path):
            sweep(self.path)
            if not resume:
                there = self._numbers()
                if there and not overwrite:
                    raise EvtsimError(
                        f"{self.path}: holds checkpoints already "
                        "(--resume goes on from them, --force starts anew)"
                    )
                for number in there:
                    self._file(number).unlink()
            yield

    def newest(self, notice: Callable[[str], None]) -> tuple[State, dict[str, Any]] | None:
        """Read the newest checkpoint that is whole; None if there is none at all.

        Parameters
        ----------
        notice : callable
            Takes a line about a checkpoint that is damaged.

        Raises
        ------
        EvtsimError
            There are checkpoints, and none is whole.
        """
        numbers = self._numbers()
        for number in reversed(numbers):
            path = self._file(number)
            try:
                state, progress = checkpoint.read(path)
                if progress is None:
                    raise EvtsimError(f"{path}: not a checkpoint of a replay in parts")
                self._prune(number)
                return state, progress
            except EvtsimError as error:
                notice(f"{error}; going back to the checkpoint before it")
        if numbers:
            raise EvtsimError(f"{self.path}: no checkpoint is whole (--force starts anew)")
        return None

    def add(self, number: int, state: State, progress: Mapping[str, Any]) -> None:
        """Write a checkpoint, and remove all but the one before it."""
        checkpoint.save(self._file(number), state, progress=progress)
        self._prune(number)

    def _prune(self, number: int) -> None:
        """Remove what is older than the checkpoint before this one."""
        for old in self._numbers():
            if old < number - 1:
                self._file(old).unlink()

    def _numbers(self) -> list[int]:
        names = [path.name.removeprefix("checkpoint-") for path in self.path.glob("checkpoint-*")]
        return sorted(int(name) for name in names if name.isdecimal())

    def _file(self, number: int) -> Path:
        return self.path / f"checkpoint-{number:06}"
