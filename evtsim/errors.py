"""Every error that a user of evtsim can cause.

Each prints as one line that says where the fault is, what was found and what was expected, so
that the command line can show it as it is.
"""

from __future__ import annotations

import errno
import os
from typing import Any

NO_FILE = "no such file"
NO_FOLDER = "its folder does not exist"
FOLDER_FOR_FILE = "is a folder (expected a file)"
FILE_FOR_FOLDER = "is a file (expected a folder)"

REASONS: dict[int | None, str] = {
    errno.ENOENT: NO_FILE,
    errno.ENOTDIR: "lies in a file (expected a folder)",
    errno.EISDIR: FOLDER_FOR_FILE,
    errno.EEXIST: FILE_FOR_FOLDER,
}
"""What the system's commonest answers to a path are called; others are in its own words."""


def shown(value: object) -> str:
    """Return a value's repr, shortened to fit a line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:70]}… ({len(text):,} characters)"


def reason(error: BaseException) -> str:
    """Say in a few words why a file or folder could not be used; the same words everywhere.

    Parameters
    ----------
    error : exception
        An OSError, whose number decides, or what a reader of some format raised.
    """
    number = getattr(error, "errno", None)
    if number in REASONS:
        return REASONS[number]
    # pyarrow's own OSErrors are about contents and carry no number.
    return getattr(error, "strerror", None) or str(error).partition("\n")[0]


class EvtsimError(Exception):
    """Base of all errors that bad input or wrong usage causes."""


class ArgumentError(EvtsimError):
    """An argument has a value that it cannot have.

    Parameters
    ----------
    name : str
        Of the argument. The command line puts the option in its place.
    value : object
    expected : str
        What it may be.
    where : str
        What the name is a part of, if it needs to be said.
    """

    def __init__(self, name: str, value: object, expected: str, where: str = "") -> None:
        self.name = name
        self.value = value
        self.expected = expected
        self.where = where
        super().__init__(f"{where}{name} is {shown(value)} (expected {expected})")

    def __reduce__(self) -> tuple[Any, ...]:
        """Workers send errors back, and pickle would make one anew of its text."""
        return type(self), (self.name, self.value, self.expected, self.where)

    def renamed(self, name: str) -> ArgumentError:
        """Return the same of an argument that is called otherwise."""
        return self if name == self.name else ArgumentError(name, self.value, self.expected)


def check_at_least_one(name: str, value: Any) -> None:
    """Raise an ArgumentError unless a value is a whole number from 1 on."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ArgumentError(name, value, "a whole number, 1 or more")


class HostError(EvtsimError):
    """A host's description does not make sense, or there is none."""


class HostFieldError(HostError, ArgumentError):
    """A field of a domain has a value that it cannot have."""


class TraceError(EvtsimError):
    """A trace, or a file that should hold one, cannot be used.

    Parameters
    ----------
    problem : str
        What is wrong, in a few words.
    path : path-like, optional
        The file that it was found in.
    record : int, optional
        Number of the record, from 0.
    field : str, optional
        Name of the column.
    value : object, optional
        What stands there.
    expected : str, optional
        What should stand there.
    """

    def __init__(
        self,
        problem: str,
        *,
        path: str | os.PathLike[str] | None = None,
        record: int | None = None,
        field: str | None = None,
        value: object = None,
        expected: str | None = None,
    ) -> None:
        self.problem = problem
        self.path = None if path is None else os.fspath(path)
        self.record = record
        self.field = field
        self.value = value
        self.expected = expected
        super().__init__(problem)

    def __str__(self) -> str:
        where = [] if self.path is None else [self.path]
        if self.record is not None:
            where.append(f"record {self.record}")
        if self.field is not None:
            where.append(f"field {self.field}")
        text = self.problem
        if self.value is not None:
            text += f": {shown(self.value)}"
        if self.expected is not None:
            text += f" (expected {self.expected})"
        return ": ".join([", ".join(where), text] if where else [text])
