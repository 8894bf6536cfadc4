"""What can be said of a trace before it is replayed.

Errors keep it from being replayed. Notes are records that the host answers with an errno
whatever its state is: a replay takes them like any other, but they may betray a wrong host file
or a broken importer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import abi
from evtsim.abi import GIVE_RESULT, OP_ARGS, Fault, Op
from evtsim.errors import EvtsimError, HostError, TraceError

if TYPE_CHECKING:
    from evtsim.dtypes import Array, Columns
    from evtsim.host import Host
    from evtsim.trace.trace import Trace

PORT_IN_ARG0 = [op for op, names in OP_ARGS.items() if names[:1] == ("port",)]


@dataclasses.dataclass(frozen=True)
class Note:
    """Records that will be answered with an errno, or that fail on purpose.

    Attributes
    ----------
    what : str
        What they have in common.
    errno : str
        The answer, unless a check in front of it answers first.
    count : int
        How many records.
    first : int
        Number of the first.
    """

    what: str
    errno: str
    count: int
    first: int

    def __str__(self) -> str:
        records = "record" if self.count == 1 else "records"
        return f"{self.count:,} {records}, first {self.first:,}: {self.what} ({self.errno})"


@dataclasses.dataclass(frozen=True)
class Validation:
    """The result of :meth:`Trace.validate`; true when there are no errors.

    Attributes
    ----------
    records : int
        How many there are.
    errors : list of EvtsimError
        What keeps the trace from being replayed.
    notes : list of Note
        What will be answered with an errno.
    """

    records: int
    errors: list[EvtsimError]
    notes: list[Note]

    def __bool__(self) -> bool:
        return not self.errors

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "records": self.records,
            "errors": [str(error) for error in self.errors],
            "notes": [dataclasses.asdict(note) for note in self.notes],
        }


def validate(trace: Trace) -> Validation:
    """Check a whole trace; stops at the first error, since what follows it is not read."""
    if trace.host is None:
        return Validation(len(trace), [_no_host(trace)], [])
    counts: dict[tuple[str, str], list[int]] = {}
    try:
        for start, columns, _ in trace.stretches():
            for what, errno, found in _notes(columns, trace.host):
                where = np.flatnonzero(found)
                if len(where):
                    number = trace.first + start + int(where[0])
                    entry = counts.setdefault((what, errno), [0, number])
                    entry[0] += len(where)
    except TraceError as error:
        return Validation(len(trace), [error], [])
    notes = [Note(what, errno, *entry) for (what, errno), entry in counts.items()]
    return Validation(len(trace), [], sorted(notes, key=lambda note: note.first))


def _no_host(trace: Trace) -> EvtsimError:
    try:
        trace.require_host()
    except HostError as error:
        return error
    raise AssertionError("a trace with a host was said to have none")


def _notes(columns: Columns, host: Host) -> Iterator[tuple[str, str, Array]]:
    """Yield what may be noted of a stretch, the errno and the records it is true of."""
    op, arg0, arg1 = columns.op, columns.arg0, columns.arg1
    known = columns.dom < len(host)
    yield "domain is not configured", "ESRCH", ~known
    row = np.where(known, columns.dom, 0)
    vcpus = host.domains["vcpus"][row]
    here = known & (columns.vcpu < vcpus)
    yield "vcpu is not configured", "ENOENT", known & ~here
    fifo = abi.PROFILES[host.profile].fifo
    known_ops = [op for op in Op if fifo or not Op.INIT_CONTROL <= op <= Op.RESET_CONT]
    yield "operation is not known", "ENOSYS", here & ~np.isin(op, known_ops)
    hypercall = here & (op < abi.FIRST_NON_HYPERCALL)
    into = hypercall & (columns.flags & Fault.IN != 0)
    yield "fault when copying the arguments in", "EFAULT", into
    out = hypercall & np.isin(op, GIVE_RESULT) & (columns.flags & Fault.OUT != 0)
    yield "fault when copying the result out, unless it fails before", "EFAULT", out

    limit = np.where(host.domains["word_bits"][row] == 64, abi.MAX_PORT_2L[64], abi.MAX_PORT_2L[32])
    if fifo:  # which ABI the domain is under then is not known here
        limit = np.full(len(row), abi.MAX_PORT_FIFO)
    yield (
        "port is beyond the ABI's limit",
        "EINVAL",
        here & np.isin(op, PORT_IN_ARG0) & (arg0 >= limit),
    )
    virq = here & np.isin(op, (Op.BIND_VIRQ, Op.RAISE_VIRQ))
    yield "virq is not below 24", "EINVAL", virq & (arg0 >= abi.NR_VIRQS)
    pirq = here & np.isin(op, (Op.BIND_PIRQ, Op.RAISE_PIRQ))
    yield "pirq is not below nr_pirqs", "EINVAL", pirq & (arg0 >= host.domains["nr_pirqs"][row])
    named = here & (
        ((op == Op.BIND_IPI) & (arg0 >= vcpus)) | ((op == Op.BIND_VCPU) & (arg1 >= vcpus))
    )
    yield "vcpu named is not configured", "ENOENT", named
