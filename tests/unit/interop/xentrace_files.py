"""Writes xentrace files, and tells in a plain loop what a reader should find in them."""

import dataclasses

import numpy as np

WINDOW = 0x1F003
LOST, PADDING = 0x1F001, 0x1F002


@dataclasses.dataclass
class Record:
    """One record: event id, words, time stamp or None."""

    event: int
    words: tuple = ()
    tsc: int | None = None

    def encoded(self):
        header = self.event | len(self.words) << 28 | (self.tsc is not None) << 31
        stamp = [] if self.tsc is None else [self.tsc & 0xFFFFFFFF, self.tsc >> 32]
        return [header, *stamp, *self.words]


def runstate(old, new, dom, vcpu, tsc):
    return Record(0x21001 + (old << 8) + (new << 4), (dom << 16 | vcpu,), tsc)


def lost(count, dom, vcpu, since, tsc):
    return Record(LOST, (count, vcpu << 16 | dom, since & 0xFFFFFFFF, since >> 32), tsc)


def encoded(windows):
    """Return the bytes of a file of (cpu, records)."""
    words = []
    for cpu, records in windows:
        body = [word for record in records for word in record.encoded()]
        words += [WINDOW | 2 << 28, cpu, 4 * len(body), *body]
    return np.array(words, np.uint32).tobytes()


NAMES = {0x28004: "wake", 0x28005: "yield", 0x28006: "block", 0x28003: "sleep"}


def meaning(record, dom, vcpu):
    """Return (dom, vcpu, kind, value) of a record that has one."""
    event, words = record.event, record.words
    if event in (0x20100D, 0x20200E):
        number = words[0] & 0xFFFFF
        given = words[0] >> 20 & 3 and len(words) > 1
        if number == 32:
            return dom, vcpu, "event_channel_op", words[1] if given else -1
        return dom, vcpu, "hypercall", number
    if event == 0x82012:
        if words[0] == 32:
            return dom, vcpu, "event_channel_op", -1
        return dom, vcpu, "hypercall", words[0]
    if event == 0x82004:
        return dom, vcpu, "upcall" if words[0] == 0xF3 else "interrupt", words[0]
    if event in NAMES:
        return words[0], words[1], NAMES[event], 0
    if event & 0x0FFFF00F == 0x21001:
        return words[0] >> 16, words[0] & 0xFFFF, "runstate", event >> 4 & 15
    if event == 0x2800A:
        return words[2], words[3], "switch", words[0]
    if event == 0x802008:
        return dom, vcpu, "irq", words[0]
    if event in (0x41001, 0x41002):
        return words[0], -1, "domain_added" if event == 0x41001 else "domain_removed", 0
    return None


def expected(windows, idle=False):
    """Return rows (tsc, pcpu, dom, vcpu, kind, value) in order."""
    stamps = [r.tsc for _, records in windows for r in records if r.tsc is not None]
    first = min(stamps, default=0)
    now, running, rows = {}, {}, []
    for cpu, records in windows:
        for record in records:
            if record.event == PADDING:
                continue
            if record.tsc is not None:
                now[cpu] = record.tsc
            tsc, words = now.get(cpu, first), record.words
            if record.event & 0x0FFFF0FF == 0x21001:
                running[cpu] = words[0] >> 16, words[0] & 0xFFFF
            elif record.event == 0x2800A:
                running[cpu] = words[2], words[3]
            elif record.event == LOST:
                running[cpu] = words[1] & 0xFFFF, words[1] >> 16
                since = min(words[2] | words[3] << 32, tsc)
                rows.append((since, cpu, *running[cpu], "lost", words[0]))
                rows.append((tsc, cpu, *running[cpu], "lost_end", words[0]))
                continue
            found = meaning(record, *running.get(cpu, (-1, -1)))
            if found and (idle or found[0] != 32767):
                rows.append((tsc, cpu, *found))
    return sorted(rows, key=lambda row: row[0])
