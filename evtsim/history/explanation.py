"""A record explained: what it did, and why its rc is what it is."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from evtsim import abi
from evtsim.abi import GIVE_RESULT, OP_ARGS, Errno, Op
from evtsim.errors import EvtsimError
from evtsim.history import deeds, xen
from evtsim.history.checks import (
    IN_FRONT,
    IN_FRONT_OF_CREATE,
    RESULT,
    Check,
    is_known,
)
from evtsim.history.moment import Moment, View, named
from evtsim.history.rules import checks_of, first_failure
from evtsim.outcomes import Answer
from evtsim.simulator import Simulator

if TYPE_CHECKING:
    from evtsim.history.history import History

NOBODYS = (
    *(Op.RAISE_VIRQ, Op.RAISE_PIRQ, Op.ALLOC_XEN, Op.FREE_XEN, Op.NOTIFY_XEN),
    *(Op.DESTROY_DOMAIN, Op.CREATE_DOMAIN),
)
"""Operations that happen to a domain, and that it does not ask for."""

DOMIDS = ("remote_dom", "dom", "remote_domid")
"""Arguments that are domain ids."""


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a record did and why, as :meth:`History.explain` returns it.

    Attributes
    ----------
    record : int
    ts : int
        ns
    dom, vcpu : int
        Caller, or the domain acted on.
    op, op_name : int, str
    arguments : dict of str to int
        By the names of abi.OP_ARGS.
    flags : int
        abi.Fault.
    rc : int
    errno_name : str
        "" for 0.
    port : int
        What the record gave back, and
    effects : list of str
        what it did, by the names of abi.Effect.
    rule : str
        The check that failed, in general; for rc 0 that all passed.
    front : list of str
        The errnos that are looked for in front of every operation and that this one can have.
    order : list of str
        Then the operation's own, in the order in which they are looked for, as docs/operations.md
        has them.
    last : list of str
        Then, once all is done, those of giving back a result.
    section : str
        Heading of docs/semantics.md under which the rule stands.
    function : str
        Xen's function that decided, and its file.
    sentences : list of str
        What happened and why, of this record.
    """

    record: int
    ts: int
    dom: int
    vcpu: int
    op: int
    op_name: str
    arguments: dict[str, int]
    flags: int
    rc: int
    errno_name: str
    port: int
    effects: list[str]
    rule: str
    front: list[str]
    order: list[str]
    last: list[str]
    section: str
    function: str
    sentences: list[str]

    @property
    def title(self) -> str:
        """The operation, its caller and its rc."""
        words = [
            f"{name}={named(value) if name in DOMIDS else value}"
            for name, value in self.arguments.items()
        ]
        by = "for" if self.op in NOBODYS else "by"
        errno = f" ({self.errno_name})" if self.rc else ""
        call = f"{self.op_name}({', '.join(words)})"
        return f"{call} {by} dom {self.dom} vcpu {self.vcpu}: rc {self.rc}{errno}"

    @property
    def text(self) -> str:
        """All of it in one paragraph."""
        why = "; ".join(self.sentences)
        return f"{self.title}: {why} (semantics.md, {self.section}; {self.function})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**dataclasses.asdict(self), "text": self.text}

    def __str__(self) -> str:
        return f"record {self.record:,}: {self.text}"

    def _repr_html_(self) -> str:
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in self.sentences)
        source = f"{self.rule} (semantics.md, {self.section}; {self.function})"
        return (
            f"<b>Record {self.record:,}</b>, {self.ts:,} ns: {html.escape(self.title)}"
            f"<ul>{lines}</ul><small>{html.escape(source)}</small>"
        )


def explain(history: History, i: int, sim: Simulator) -> Explanation:
    """Explain record i of a history, on a simulator in the state that it finds."""
    record = history.trace[i : i + 1]
    moment = Moment(sim.state.copy(), record.columns)
    outcomes = sim.apply(record)
    assert outcomes is not None
    values = {name: int(column[0]) for name, column in outcomes.fields()}
    answer = Answer(**{**values, "effects": abi.Effect(values["effects"])})  # type: ignore[arg-type]
    failure = first_failure(moment)
    _agree(i, answer, failure)
    sentences = [] if failure is None else [failure[1]]
    if failure is None or failure[0] is RESULT:
        since = _Since(history, i, moment.ts)
        deed = deeds.Deed(moment, View(sim.state), answer, since)
        sentences = [*deeds.tell(deed), *sentences]
    rule, section, function = _rule(moment, failure and failure[0])
    op = moment.op
    names = OP_ARGS[Op(op)] if op in OP_ARGS else ("arg0", "arg1")
    return Explanation(
        record=i,
        ts=moment.ts,
        dom=moment.dom,
        vcpu=moment.vcpu,
        op=op,
        op_name=abi.op_name(op),
        arguments=dict(zip(names, (moment.arg0, moment.arg1), strict=False)),
        flags=moment.flags,
        rc=answer.rc,
        errno_name=abi.errno_name(answer.rc),
        port=answer.port,
        effects=[effect.name or "" for effect in answer.effects],
        rule=rule,
        front=errnos_in_front(moment.profile.name, op),
        order=errno_order(moment.profile.name, op),
        last=errnos_of_result(moment.profile.name, op),
        section=section,
        function=function,
        sentences=sentences,
    )


def _agree(i: int, answer: Answer, failure: tuple[Check, str] | None) -> None:
    """Raise an error rather than explain something else than what happened."""
    expected = -failure[0].errno if failure else 0
    if expected != answer.rc:
        raise EvtsimError(
            f"record {i}: the rules explain rc {expected} and the replay answered {answer.rc}: "
            "this is a fault of evtsim, please report it"
        )


def _rule(moment: Moment, check: Check | None) -> tuple[str, str, str]:
    """Return rule, section and function of what decided."""
    op = moment.op
    if check is not None:
        own = xen.OWN[Op(op)] if op in xen.OWN else xen.DISPATCH
        return check.rule, check.section, (check.function or own).of(moment.modern)
    section = deeds.SECTIONS.get(Op(op), "Operations")
    if moment.fifo(moment.dom) and op in deeds.IN_FIFO:
        section = deeds.FIFO_SECTION
    return "every check passed", section, xen.OWN[Op(op)].of(moment.modern)


def errno_order(profile: str, op: int) -> list[str]:
    """Return an operation's own errnos in the order in which they are looked for.

    One that is looked for several times in a row stands once. An operation that the profile does
    not have is ENOSYS.
    """
    if not is_known(abi.PROFILES[profile], op):
        return ["ENOSYS"]
    return _once(IN_FRONT_OF_CREATE[1:] if op == Op.CREATE_DOMAIN else checks_of(profile, op))


def errnos_in_front(profile: str, op: int) -> list[str]:
    """Return the errnos that come before an operation's own, in order."""
    if op == Op.CREATE_DOMAIN:
        return _once(IN_FRONT_OF_CREATE[:1])
    known = is_known(abi.PROFILES[profile], op)
    never = {Errno.ENOSYS}  # for an operation that there is; else it stands for the operation
    if not known or op >= abi.FIRST_NON_HYPERCALL:
        never.add(Errno.EFAULT)
    return _once(check for check in IN_FRONT if check.errno not in never)


def errnos_of_result(profile: str, op: int) -> list[str]:
    """Return the errnos that come after an operation's own, once all is done."""
    gives = op in GIVE_RESULT and is_known(abi.PROFILES[profile], op)
    return [RESULT.errno.name] if gives else []


def _once(checks: Iterable[Check]) -> list[str]:
    """Return the errnos of checks; what is looked for several times in a row stands once."""
    names = [check.errno.name for check in checks]
    return [name for n, name in enumerate(names) if n == 0 or names[n - 1] != name]


class _Since:
    """Says since when a port's bit is what it is before a record."""

    def __init__(self, history: History, record: int, ts: int) -> None:
        self.history = history
        self.record = record
        self.ts = ts

    def __call__(self, dom: int, port: int, field: str) -> str:
        row = self.history.last_change(dom, port, field, self.record)
        if row is None:
            return ", as from the start"
        ago = self.ts - row["ts"]
        if row["record"] < 0:
            return f" for {ago:,} ns, since the guest handled its event"
        return f" since record {row['record']:,}, {ago:,} ns ago"
