"""What a dump shows: domains, channels, who talks to whom, and what looks wrong, in words."""

from __future__ import annotations

import bisect
import dataclasses
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from evtsim import abi
from evtsim.abi import PortState, Virq
from evtsim.interop._lines import BEFORE
from evtsim.interop.snapshots import Snapshot, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from evtsim.dtypes import Array

DEFAULT_LIMIT = 1_023
"""libxl's max_event_channels for a domain whose configuration says nothing: its highest port."""

NEAR = 0.8
"""A domain that uses this share of its likely limit is near its last port."""

TYPES = {
    "interdomain": PortState.INTERDOMAIN,
    "unbound": PortState.UNBOUND,
    "virq": PortState.VIRQ,
    "pirq": PortState.PIRQ,
    "ipi": PortState.IPI,
}

Kind = tuple[str, str, str]
"""A finding's status, what it is of several ports, and what it means."""

KINDS: dict[str, Kind] = {
    "stuck": (
        "problem",
        "pending and not masked in this dump, pending in the one before",
        "Nobody took the event in between, or a busy port has a new one: a third dump tells. For "
        "what was told to the vcpu, see each port.",
    ),
    "lost": (
        "problem",
        "pending and not masked, and no vcpu has been told",
        "The selector's bit is clear (FIFO: the port is in no queue), so the notification was lost "
        "on the way, and further ones coalesce with the pending bit: as after a bind_vcpu while "
        "it was pending, or a handler that took the selector and not the port. A handler that is "
        "at work just now looks the same.",
    ),
    "told": (
        "problem",
        "pending and not masked, and the vcpu has been told",
        "The selector's bit is set (FIFO: the port is in a queue), so the upcall is pending and "
        "the vcpu has not run its handler: it does not run, masks upcalls, or gets no interrupt "
        "for them. For a moment this is how every event looks.",
    ),
    "pending": (
        "problem",
        "pending and not masked",
        "This form of a dump does not say whether the vcpu has been told.",
    ),
    "one-sided": (
        "problem",
        "whose other end does not point back",
        "What is sent there goes elsewhere, or nowhere. Xen keeps both ends alike, so a line of "
        "the dump is wrong or missing, or the channel was closed while Xen printed.",
    ),
    "masked": (
        "notice",
        "pending and masked",
        "The guest asked not to be told, and has to unmask to hear of the event: a handler that "
        "never ended, a driver that waits, or a port that nobody uses any more.",
    ),
    "limit": (
        "notice",
        "near the last port",
        "Beyond the limit every allocation fails with ENOSPC.",
    ),
    "vcpu": (
        "notice",
        "on a vcpu that nothing else uses",
        "Other vcpus of the domain have IPIs or a timer, and this one has none, so it may be "
        "offline: nobody takes its upcalls.",
    ),
    "unbound": (
        "notice",
        "unbound",
        "They wait for the other domain to bind. Sends on them are dropped without an error: a "
        "frontend whose backend has not come, or has closed its end.",
    ),
    "unread": ("notice", "could not be read", "What these lines say is missing here."),
}
"""What is looked for, worst first."""

STATUSES = ("problem", "notice")


@dataclasses.dataclass(frozen=True, eq=False)
class Inspection:
    """What a dump shows.

    Attributes
    ----------
    snapshot : Snapshot
    domains : pandas.DataFrame
        dom, abi, ports (in use), highest (port), limit (likely, see docs/dumps.md), left,
        interdomain, unbound, virq, pirq, ipi, xen (attached to Xen), pending, masked (mask bits
        set), vcpus (that ports are on), polling (a tuple).
    channels : pandas.DataFrame
        Who talks to whom: dom, remote_dom, channels (INTERDOMAIN ports of dom), pending (of
        them). Most first.
    findings : pandas.DataFrame
        Worst first: kind (a key of KINDS), status, dom, port (-1: of the domain or log), what.
    """

    snapshot: Snapshot
    domains: pd.DataFrame
    channels: pd.DataFrame
    findings: pd.DataFrame

    def summaries(self, most: int = 5) -> list[tuple[str, str, str, str, list[str]]]:
        """Return the findings by kind: kind, status, title, meaning, and the first cases."""
        told = []
        for kind, (status, several, meaning) in KINDS.items():
            own = self.findings[self.findings["kind"] == kind]
            if len(own):
                noun = {"limit": "domain", "unread": "line"}.get(kind, "port")
                title = f"{len(own):,} {noun}{'s' if len(own) > 1 else ''} {several}"
                told.append((kind, status, title, meaning, own["what"].head(most).tolist()))
        return told

    def to_dict(self) -> dict[str, Any]:
        """Return it all as plain data."""
        s = self.snapshot
        return {
            "form": s.form,
            "line": s.line,
            "last_line": s.last_line,
            "time": s.time,
            "domains": self.domains.to_dict("records"),
            "channels": self.channels.to_dict("records"),
            "findings": self.findings.to_dict("records"),
        }


def inspect(
    snapshot: Snapshot, *, dom: int | None = None, before: Snapshot | None = None
) -> Inspection:
    """Look at a dump.

    Parameters
    ----------
    snapshot : Snapshot
    dom : int, optional
        Tell of this domain only.
    before : Snapshot, optional
        An earlier dump of the same host, to find ports that are pending in both.

    Returns
    -------
    Inspection
    """
    import pandas as pd

    domains, channels = _domains(snapshot), _channels(snapshot)
    parts = [
        *_events(snapshot, before),
        *_channels_wrong(snapshot),
        *_of_domains(snapshot, domains),
    ]
    parts += [("unread", -1, -1, str(problem)) for problem in snapshot.problems]
    rows = [(kind, KINDS[kind][0], *rest) for kind, *rest in parts]
    findings = pd.DataFrame(rows, columns=["kind", "status", "dom", "port", "what"])
    findings = findings.astype({"dom": np.int64, "port": np.int64})
    order = findings["kind"].map({kind: place for place, kind in enumerate(KINDS)})
    findings = findings.loc[order.sort_values(kind="stable").index].reset_index(drop=True)
    if dom is not None:
        domains = domains[domains["dom"] == dom].reset_index(drop=True)
        own = (channels["dom"] == dom) | (channels["remote_dom"] == dom)
        channels = channels[own].reset_index(drop=True)
        findings = findings[findings["dom"] == dom].reset_index(drop=True)
    return Inspection(snapshot, domains, channels, findings)


def compare(before: Snapshot, after: Snapshot) -> pd.DataFrame:
    """Return what changed from one dump of a host to another.

    Parameters
    ----------
    before, after : Snapshot

    Returns
    -------
    DataFrame
        By domain and port: dom, port (-1: the domain), change: "domain new", "domain gone",
        "opened", "closed", "unread" (in one of them; nobody knows whether it changed), "other
        channel", "moved" (to another vcpu), "stuck" (pending in both), "set" and "cleared" (the
        pending bit), "masked", "unmasked"; what, in words.
    """
    import pandas as pd

    keys = ["dom", "port"]
    old, new = set(before.domains["dom"].tolist()), set(after.domains["dom"].tolist())
    missing = {False: Unread.of(before), True: Unread.of(after)}
    rows = [_domain_change(dom, dom in new, missing[dom in old]) for dom in sorted(old ^ new)]
    a, b = (each.ports[each.ports["dom"].isin(old & new)] for each in (before, after))
    both = a.merge(b, "outer", keys, suffixes=("", "_now"), indicator="found")
    kept = (both["found"] == "both").to_numpy()
    same = kept.copy()
    for name in ("state", "remote_dom", "remote_port", "irq"):
        same &= (both[name] == both[f"{name}_now"]).to_numpy()
    pending, pending_now = (both[name].to_numpy() for name in ("pending", "pending_now"))
    mask, mask_now = (both[name].to_numpy() for name in ("mask", "mask_now"))
    appeared, vanished = (both["found"] == side for side in ("right_only", "left_only"))
    unread_then = appeared & missing[False].hides(both)
    unread_now = vanished & missing[True].hides(both)
    changes: dict[str, tuple[Any, Callable[[Any], str]]] = {
        "opened": (appeared & ~unread_then, lambda row: str(row.state_name_now)),
        "closed": (vanished & ~unread_now, lambda row: str(row.state_name)),
        "unread": (
            unread_then | unread_now,
            lambda row: (
                f"{row.state_name}, and now not read"
                if row.found == "left_only"
                else f"{row.state_name_now}, and not read before"
            ),
        ),
        "other channel": (
            kept & ~same,
            lambda row: f"{row.state_name}, now {row.state_name_now}",
        ),
        "moved": (
            same & (both["notify_vcpu"] != both["notify_vcpu_now"]),
            lambda row: f"from vcpu {row.notify_vcpu:.0f} to {row.notify_vcpu_now:.0f}",
        ),
        "stuck": (same & (pending == 1) & (pending_now == 1), lambda _: "pending in both"),
        "set": (same & (pending == 0) & (pending_now == 1), lambda _: "pending bit"),
        "cleared": (same & (pending == 1) & (pending_now == 0), lambda _: "pending bit"),
        "masked": (same & (mask == 0) & (mask_now == 1), lambda _: "mask bit"),
        "unmasked": (same & (mask == 1) & (mask_now == 0), lambda _: "mask bit"),
    }
    for change, (chosen, told) in changes.items():
        changed = rows_of(both[np.asarray(chosen, bool)])
        rows += [(int(row.dom), int(row.port), change, told(row)) for row in changed]
    frame = pd.DataFrame(rows, columns=["dom", "port", "change", "what"])
    return frame.sort_values(keys, kind="stable", ignore_index=True)


class Unread(NamedTuple):
    """What a dump may have and does not tell, since lines of it could not be read."""

    ports: set[tuple[int, int]]
    """Domain and port of a line."""

    doms: set[int]
    """Domains with a line that does not even say its port."""

    domains: bool
    """Whether it may have domains that it does not tell."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> Unread:
        """Find out what the lines left out were about."""
        unread = cls(set(), set(), False)
        doms, lines = (snapshot.domains[name].tolist() for name in ("dom", "line"))
        for problem in snapshot.problems:
            place = max(0, bisect.bisect(lines, problem.line) - 1)
            if "olling" in problem.text:
                continue
            if "without" in problem.what or "information" in problem.text:
                unread = unread._replace(domains=True)
            elif problem.what.startswith("one of "):  # whose others are not told one by one
                unread.doms.update(doms[place:])
            elif match := WHOSE.match(problem.text):
                unread.ports.add((doms[place], int(match["port"])))
            else:
                unread.doms.add(doms[place])
        return unread

    def hides(self, ports: pd.DataFrame) -> Any:
        """Tell which ports the dump may have: of a frame with dom and port."""
        pairs = zip(ports["dom"].tolist(), ports["port"].tolist(), strict=True)
        return np.array(
            [dom in self.doms or (dom, port) in self.ports for dom, port in pairs], bool
        )


WHOSE = re.compile(BEFORE + r"(?P<port>[0-9]{1,6})[ \t:]")
"""A line that says which port it is of, whatever else is wrong with it."""


def _domain_change(dom: int, is_new: bool, other: Unread) -> tuple[int, int, str, str]:
    """Tell of a domain that one of two dumps has, and not the other one."""
    if other.domains:
        return dom, -1, "unread", f"dom{dom}, {'not read before' if is_new else 'now not read'}"
    return dom, -1, f"domain {'new' if is_new else 'gone'}", f"dom{dom}"


# Tables ------------------------------------------------------------------------------------------


def _domains(snapshot: Snapshot) -> pd.DataFrame:
    """Make the frame of domains."""
    ports = snapshot.ports
    frame = snapshot.domains[["dom", "abi"]].astype({"dom": np.int64}).reset_index(drop=True)
    dom, size = ports["dom"].to_numpy(np.int64), 1 << 16

    def count(chosen: Any = slice(None)) -> Array:
        counts: Array = np.bincount(dom[chosen], minlength=size)[frame["dom"]]
        return counts

    highest = np.zeros(size, np.int64)
    np.maximum.at(highest, dom, ports["port"].to_numpy(np.int64))
    frame["ports"] = count()
    frame["highest"] = highest[frame["dom"]]
    frame["limit"] = _limits(frame)
    frame["left"] = frame["limit"] - frame["ports"]
    state = ports["state"].to_numpy()
    for name, number in TYPES.items():
        frame[name] = count(state == number)
    frame["xen"] = count(ports["xen"].to_numpy() > 0)
    frame["pending"] = count(ports["pending"].to_numpy() == 1)
    frame["masked"] = count(ports["mask"].to_numpy() == 1)
    used = ports[["dom", "notify_vcpu"]].drop_duplicates()["dom"].to_numpy(np.int64)
    frame["vcpus"] = np.bincount(used, minlength=size)[frame["dom"]]
    frame["polling"] = snapshot.domains["polling"].tolist()
    return frame


def _limits(frame: pd.DataFrame) -> Array:
    """Return the highest port that each domain likely may have.

    The ABI's for dom0; libxl's default for all others, unless they are beyond it.
    """
    fifo = frame["abi"] == "fifo"
    widest = np.where(fifo, abi.MAX_PORT_FIFO, abi.MAX_PORT_2L[64]) - 1
    plain = (frame["dom"] > 0) & (frame["highest"] <= DEFAULT_LIMIT)
    limits: Array = np.where(plain, DEFAULT_LIMIT, widest)
    return limits


def _channels(snapshot: Snapshot) -> pd.DataFrame:
    """Count channels from domain to domain."""
    ports = snapshot.ports
    connected = ports[ports["state"] == PortState.INTERDOMAIN]
    pairs = connected.assign(pending=connected["pending"] == 1).astype(
        {"dom": np.int64, "remote_dom": np.int64}
    )
    grouped = pairs.groupby(["dom", "remote_dom"])["pending"]
    frame = grouped.agg(channels="size", pending="sum").reset_index()
    frame = frame.astype(np.int64)
    order = ["channels", "dom", "remote_dom"]
    return frame.sort_values(order, ascending=[False, True, True], ignore_index=True)


# Findings ----------------------------------------------------------------------------------------

Case = tuple[str, int, int, str]
"""Kind, domain, port, and the words."""


def describe(port: Any) -> str:
    """Say what a port is: dom0 port 5 (INTERDOMAIN with dom1 port 7, vcpu 0)."""
    to = {
        PortState.UNBOUND: f" for dom{port.remote_dom}",
        PortState.INTERDOMAIN: f" with dom{port.remote_dom} port {port.remote_port}",
        PortState.VIRQ: f" {_virq_name(int(port.irq))}",
        PortState.PIRQ: f" {port.irq}",
    }.get(port.state, "")
    xen = ", attached to Xen" if port.xen else ""
    return f"dom{port.dom} port {port.port} ({port.state_name}{to}, vcpu {port.notify_vcpu}{xen})"


def _virq_name(number: int) -> str:
    try:
        return Virq(number).name
    except ValueError:
        return str(number)


def _events(snapshot: Snapshot, before: Snapshot | None) -> list[Case]:
    """Find ports that are pending."""
    ports = snapshot.ports
    waiting = ports[ports["pending"] == 1]
    stuck: set[tuple[int, int]] = set()
    if before is not None:
        changes = compare(before, snapshot)
        both = changes[changes["change"] == "stuck"]
        stuck = set(zip(both["dom"].tolist(), both["port"].tolist(), strict=True))
    found: list[Case] = []
    for port in rows_of(waiting):
        told = max(port.selector, port.linked)
        kind = {1: "told", 0: "lost"}.get(told, "pending")
        where, what = (int(port.dom), int(port.port)), describe(port)
        if port.mask == 1:
            kind = "masked"
            what += ", as in the dump before" if where in stuck else ""
        elif where in stuck:
            kind, what = "stuck", f"{what}: {KINDS[kind][1]}"
        found.append((kind, *where, what))
    return found


def _channels_wrong(snapshot: Snapshot) -> list[Case]:
    """Find channels with one end, and ports that wait for theirs."""
    ports = snapshot.ports
    found: list[Case] = []
    unbound = ports[ports["state"] == PortState.UNBOUND]
    found += [("unbound", int(p.dom), int(p.port), describe(p)) for p in rows_of(unbound)]
    listed = set(snapshot.domains["dom"].tolist())
    columns = ["dom", "port", "state", "remote_dom", "remote_port"]
    peers = ports[columns].rename(columns={"dom": "remote_dom", "port": "remote_port"})
    peers.columns = ["remote_dom", "remote_port", "peer_state", "back_dom", "back_port"]
    connected = ports[ports["state"] == PortState.INTERDOMAIN]
    if len(listed) == 1:  # which says nothing of peers elsewhere
        connected = connected[connected["remote_dom"].isin(listed)]
    joined = connected.merge(peers, "left", ["remote_dom", "remote_port"])
    right = (
        (joined["peer_state"] == PortState.INTERDOMAIN)
        & (joined["back_dom"] == joined["dom"])
        & (joined["back_port"] == joined["port"])
    )
    for port in rows_of(joined[~right]):
        if port.remote_dom not in listed:
            why = f"dom{port.remote_dom} is not in the dump"
        elif port.peer_state != port.peer_state:
            why = "that port is not in use"
        elif port.peer_state == PortState.INTERDOMAIN:
            why = f"that port points to dom{int(port.back_dom)} port {int(port.back_port)}"
        else:
            why = f"that port is {PortState(int(port.peer_state)).name}"
        found.append(("one-sided", int(port.dom), int(port.port), f"{describe(port)}: {why}"))
    return found


def _of_domains(snapshot: Snapshot, domains: pd.DataFrame) -> list[Case]:
    """Find domains that are near their last port, and vcpus that look offline."""
    found: list[Case] = []
    for row in rows_of(domains[domains["ports"] >= NEAR * domains["limit"]]):
        what = f"dom{row.dom} uses {row.ports:,} of {row.limit:,} ports, {row.left:,} are left"
        found.append(("limit", int(row.dom), -1, what))
    ports = snapshot.ports
    timer = (ports["state"] == PortState.VIRQ) & (ports["irq"] == Virq.TIMER)
    own = timer | (ports["state"] == PortState.IPI)
    vcpu = ports["dom"].to_numpy(np.int64) << 16 | ports["notify_vcpu"].to_numpy(np.int64)
    lively = ports["dom"].isin(ports["dom"][own]).to_numpy()
    odd = lively & ~np.isin(vcpu, vcpu[own])
    found += [("vcpu", int(p.dom), int(p.port), describe(p)) for p in rows_of(ports[odd])]
    return found
