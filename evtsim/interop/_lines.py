"""The lines of a log that look like a dump's, and their fields.

A log may have millions of lines, so what looks like a dump's line is found by Arrow's regular
expressions over all lines at once. What the lines mean is for _reading.py to say.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim.interop.snapshots import NOT_SAID, Problem

if TYPE_CHECKING:
    from evtsim.dtypes import Array

# What may precede a line: anything up to (XEN) and its timestamp, or quoting.
BEFORE = r"^(?:[^(]*\(XEN\) ?(?:\[(?P<time>[^\]]*)\] ?)?)?[>| \t]*"
AFTER = r"[ \t\r]*$"

PORT = (
    BEFORE
    + r"(?P<port>[0-9]{1,6})[ \t]+\[(?P<pending>[01])/(?P<mask>[01])(?P<third>(?:/[^\]/]*)?)\]:"
    r"[ \t]+s=(?P<state>[0-9]) n=(?P<notify_vcpu>[0-9]{1,5})(?: x=(?P<x>[0-9]{1,3}))?"
    r"(?: d=(?P<d>[0-9]{1,5}))?(?: p=(?P<p>[0-9]{1,6}))?(?: i=(?P<i>-?[0-9]{1,6}))?"
    r"(?: v=(?P<v>[0-9]{1,3}))?(?: x=(?P<old_x>[0-9]{1,3}))?(?: Z=(?P<label>[^ \t\r\n]+))?" + AFTER
)
LISTED = (
    BEFORE + r"(?P<port>[0-9]{1,6}): VCPU (?P<notify_vcpu>[0-9]{1,5}): "
    r"(?:(?P<ipi>IPI)|Physical IRQ (?P<pirq>[0-9]{1,6})|Virtual IRQ (?P<virq>[0-9]{1,3})"
    r"|Interdomain \(Waiting connection\) - Remote Domain (?P<waits>[0-9]{1,5})"
    r"|Interdomain \(Connected\) - Remote Domain (?P<d>[0-9]{1,5}), Port (?P<p>[0-9]{1,6}))"
) + AFTER
LIKE_PORT = BEFORE + r"[0-9]+[ \t]*(?:\[[01?]|in flux|" + AFTER + ")"
LIKE_LISTED = BEFORE + r"[0-9]+: VCPU"
HEADER = (
    BEFORE + r"(?:'(?P<key>.)' pressed|Event channel information for domain"
    r"|Polling vCPUs:|Domain [0-9]+ polling)"
)

KEY = re.compile(BEFORE.encode() + rb"'(?P<key>.)' pressed")
DOMAIN = re.compile(
    BEFORE.encode() + rb"Event channel information for domain (?P<dom>\d{1,5}):\s*$"
)
POLLING = re.compile(BEFORE.encode() + rb"Polling vCPUs: \{(?P<list>[\d,-]*)\}\s*$")
OLD_POLLING = re.compile(
    BEFORE.encode() + rb"Domain (?P<dom>\d{1,5}) polling vCPUs: (?P<bits>[0-9a-f]{8,16})\s*$"
)

FIFO_FIELD = r"^/(?:(?P<none>\?) *|[ ]*(?P<busy>B?) *(?:(?P<dash>-)|(?P<link>[0-9]{1,6})) *)$"


class Lines:
    """A log's lines as an Arrow array that shares its bytes."""

    def __init__(self, data: bytes) -> None:
        import pyarrow as pa

        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10)
        offsets = np.concatenate([[0], ends + 1]).astype(np.int64)
        if len(data) > offsets[-1]:
            offsets = np.append(offsets, len(data))
        # Every line ends in its newline, which the expressions' end has to allow for.
        self.array = pa.Array.from_buffers(
            pa.large_binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        )

    def having(self, *parts: bytes) -> Array:
        """Return the numbers, from 0, of the lines that have one of the texts in them."""
        import pyarrow.compute as pc

        found = np.zeros(len(self.array), bool)
        for part in parts:
            found |= pc.match_substring(self.array, part).to_numpy(zero_copy_only=False)
        return np.flatnonzero(found)

    def like(self, pattern: str, numbers: Array) -> Array:
        """Return which of these lines match, by number."""
        import pyarrow as pa
        import pyarrow.compute as pc

        some = self.array if len(numbers) == len(self.array) else self.array.take(pa.array(numbers))
        found = pc.match_substring_regex(some, pattern.replace("$", r"\n?$"))
        result: Array = numbers[found.to_numpy(zero_copy_only=False)]
        return result

    def fields(self, numbers: Array, pattern: str) -> tuple[Array, dict[str, Any]]:
        """Return which lines match as a whole, and these lines' groups as arrays of bytes."""
        import pyarrow as pa
        import pyarrow.compute as pc

        groups = pc.extract_regex(self.array.take(pa.array(numbers)), pattern.replace("$", r"\n?$"))
        right = groups.is_valid().to_numpy(zero_copy_only=False)
        kept = groups.drop_null()
        names = [field.name for field in groups.type]
        return right, {name: kept.field(i) for i, name in enumerate(names)}

    def text(self, number: int) -> bytes:
        """Return a line without its end."""
        line: bytes = self.array[number].as_py()
        return line.rstrip(b"\r\n")

    def problem(self, number: int, what: str) -> Problem:
        """Return the report of a line."""
        text = self.text(number).decode(errors="replace").strip()
        return Problem(number + 1, what, text if len(text) <= 80 else f"{text[:70]}…")


def numbers_of(column: Any, absent: int = NOT_SAID) -> Array:
    """Return a group's numbers; `absent` where it is empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.cast(column, pa.large_string())
    text = pc.if_else(pc.equal(text, ""), str(absent), text)
    result: Array = pc.cast(text, pa.int64()).to_numpy(zero_copy_only=False)
    return result


def is_there(column: Any) -> Array:
    """Return where a group is not empty."""
    import pyarrow.compute as pc

    result: Array = pc.greater(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
    return result
