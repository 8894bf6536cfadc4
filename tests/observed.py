"""The reference model with an observer: statistics in the most obvious way.

Looks at the whole state before and after every record, and adds up what went on between two
records for every pending bit. Slow, and sharing nothing with the kernels' way of counting.

A port has a pending bit of the 2-level ABI and, while its domain uses the FIFO ABI, one of that.
What the FIFO ABI hides is still there:

- Outstanding are both bits. Each one that was set is delivered or cleared once, or outstanding.
  Leaving the FIFO ABI clears all FIFO bits, destroying the domain all bits.
- Time counts for the bit of the present ABI only, and masked is what the present ABI says.
- A reset that ends the FIFO ABI brings the 2-level bits back. They start at that time: it is the
  beginning of their latency, and their port is then what their type is.
- Nothing starts anew when a port is allocated that has been left pending, by free_xen, say.
- A FIFO unmask that links a pending port again is no notification.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from tests.reference import Domain, DomainConfig, Effect, Op, Outcome, Record, ReferenceHost

Port = tuple[int, int]
Bit = tuple[int, int, bool]  # dom, port, whether of the FIFO ABI


class ObservedHost(ReferenceHost):
    """A reference host that keeps counts per port, vcpu, domain and pair of domains."""

    def __init__(self, domains: Sequence[DomainConfig], profile: str = "xen-4.0") -> None:
        super().__init__(domains, profile)
        self.port: defaultdict[Port, Counter[str]] = defaultdict(Counter)
        self.vcpu: defaultdict[Port, Counter[str]] = defaultdict(Counter)
        self.domain: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self.edge: defaultdict[tuple[int, int], Counter[str]] = defaultdict(Counter)
        self.operation: Counter[tuple[int, int, int]] = Counter()
        self.first_ts: dict[tuple[int, int, int], int] = {}
        self.raised_by_sends = 0
        self.latencies: list[int] = []
        self.since: dict[Port, int] = {}
        self.last_delivered: dict[Port, int] = {}
        self.now = 0
        self.notified: list[tuple[int, int, Effect]] = []

    def pending(self) -> set[Port]:
        """List the ports that are pending in the ABI of their domains."""
        return {(d.domid, p) for d in self.domains if d.alive for p in d.abi.pending_ports()}

    def bits(self) -> set[Bit]:
        """List the pending bits of both ABIs."""
        living = [domain for domain in self.domains if domain.alive]
        two_level = {(d.domid, port, False) for d in living for port in d.pending}
        fifo = {(d.domid, port, True) for d in living if d.fifo for port in d.fifo.pending_ports()}
        return two_level | fifo

    def outstanding(self) -> Counter[Port]:
        """Count the pending bits of every port."""
        return Counter((dom, port) for dom, port, _ in self.bits())

    def apply(self, record: Record) -> Outcome:
        self._let_time_pass(record.ts)
        self._watch()
        before = self.bits()
        under_fifo = [domain for domain in self.domains if domain.fifo]
        kicks, blocked = self._kicked_and_blocked()
        outcome = super().apply(record)
        self._count_record(record, outcome)
        self._count_notifications(record)
        self._count_gone(record, before - self.bits())
        self._start_again(record, under_fifo)
        if not outcome.rc:
            self._count_upcall(record, outcome, kicks)
        self._count_vcpus(kicks, blocked)
        self._count_domains()
        return outcome

    def _kicked_and_blocked(self) -> tuple[set[Port], set[Port]]:
        return (
            {key for key, v in self._vcpus() if v.upcall_pending},
            {key for key, v in self._vcpus() if v.blocked},
        )

    def _count_vcpus(self, kicks: set[Port], blocked: set[Port]) -> None:
        """Count what happened to the vcpus since these two were taken."""
        for key, v in self._vcpus():
            if v.upcall_pending and key not in kicks:
                self.vcpu[key]["kicks"] += 1
            if key in blocked and not v.blocked:
                self.vcpu[key]["poll_wakes"] += 1

    def _vcpus(self):
        return [((d.domid, i), v) for d in self.domains if d.alive for i, v in enumerate(d.vcpus)]

    def _watch(self) -> None:
        """Hear of every notification, and on which port it was."""
        self.notified = []
        for domain in self.domains:
            domain.set_pending = self._listener(domain)

    def _listener(self, domain):
        def set_pending(port: int, vcpu: int) -> Effect:
            effect = type(domain).set_pending(domain, port, vcpu)
            self.notified.append((domain.domid, port, effect))
            return effect

        return set_pending

    def _let_time_pass(self, ts: int) -> None:
        for dom, port in self.pending():
            self.port[dom, port]["pending_ns"] += ts - self.now
            if self.domains[dom].abi.is_masked(port):
                self.port[dom, port]["masked_ns"] += ts - self.now
        self.now = ts

    def _count_record(self, record: Record, outcome: Outcome) -> None:
        dom = record.dom if record.dom < len(self.domains) else -1
        op = record.op if record.op in list(Op) else 76
        key = (dom, op, outcome.rc)
        self.operation[key] += 1
        self.first_ts.setdefault(key, record.ts)
        self.domain[dom]["hypercalls"] += op < 64
        self.domain[dom]["errors"] += outcome.rc < 0
        if record.op == Op.SEND and outcome.rc == 0:
            port = self.port[record.dom, record.arg0]
            port["sends"] += 1
            port["dropped"] += bool(outcome.effects & Effect.DROPPED)
            port["to_xen"] += bool(outcome.effects & Effect.XEN)
            if not outcome.effects:
                port["ignored"] += 1

    def _count_notifications(self, record: Record) -> None:
        for dom, port, effect in self.notified:
            counts = self.port[dom, port]
            counts["raised"] += 1
            counts["masked"] += bool(effect & Effect.MASKED)
            for flag in (Effect.COALESCED, Effect.SET, Effect.SAVED, Effect.NO_CONTROL_BLOCK):
                if effect & flag:
                    counts[flag.name.lower()] += 1
            if effect & Effect.SET:
                self.since[dom, port] = record.ts
            if record.op == Op.SEND:
                self.raised_by_sends += 1
            if record.op in (Op.SEND, Op.NOTIFY_XEN):
                self.edge[record.dom, dom]["raised"] += 1
                self.edge[record.dom, dom]["coalesced"] += bool(effect & Effect.COALESCED)

    def _count_gone(self, record: Record, gone: set[Bit]) -> None:
        for dom, port, _ in gone:
            if record.op == Op.UPCALL:
                self._count_delivered((dom, port), record.ts)
            else:
                self.port[dom, port]["cleared"] += 1

    def _start_again(self, record: Record, under_fifo: list[Domain]) -> None:
        """Begin with the bits that were out of sight until now."""
        for domain in under_fifo:
            if domain.fifo is None:
                for port in domain.pending:
                    self.since[domain.domid, port] = record.ts

    def _count_delivered(self, key: Port, ts: int) -> None:
        counts = self.port[key]
        counts["delivered"] += 1
        latency = ts - self.since[key]
        self.latencies.append(latency)
        counts["latency_sum"] += latency
        counts["latency_max"] = max(counts["latency_max"], latency)
        if key in self.last_delivered:
            gap = ts - self.last_delivered[key]
            counts["longest_gap"] = max(counts["longest_gap"], gap)
        self.last_delivered[key] = ts

    def _count_upcall(self, record: Record, outcome: Outcome, kicks: set[Port]) -> None:
        if record.op != Op.UPCALL:
            return
        key = (record.dom, record.vcpu)
        counts = self.vcpu[key]
        masked = self.domains[record.dom].vcpus[record.vcpu].upcall_mask
        if key not in kicks or masked:
            counts["ignored_upcalls"] += 1
            return
        counts["upcalls"] += 1
        counts["spurious"] += outcome.port == 0
        counts["delivered"] += outcome.port
        counts["largest_batch"] = max(counts["largest_batch"], outcome.port)

    def _count_domains(self) -> None:
        outstanding = Counter(dom for dom, _, _ in self.bits())
        for domain in self.domains:
            counts = self.domain[domain.domid]
            channels = domain.channels if domain.alive else []
            counts["in_use"] = sum(channel.state > 1 for channel in channels)
            counts["in_use_peak"] = max(counts["in_use_peak"], counts["in_use"])
            counts["pending"] = outstanding[domain.domid]
            counts["pending_peak"] = max(counts["pending_peak"], counts["pending"])
