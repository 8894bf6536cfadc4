"""What is wrong in a dump is found, each kind by a planted case; a clean boot gives nothing."""

from __future__ import annotations

import pytest

import evtsim
from evtsim.interop import dumps, inspection
from evtsim.interop.inspection import KINDS
from evtsim.interop.snapshots import Snapshot
from evtsim.report import dumps as pages
from tests.unit.interop.test_dumps import LISTED, OF_2010

DOM0 = [
    "1 [0/0/0]: s=6 n=0 x=0",
    "2 [0/0/0]: s=3 n=0 x=0 d=1 p=2",
]
DOM1 = [
    "1 [0/0/0]: s=6 n=0 x=0",
    "2 [0/0/0]: s=3 n=0 x=0 d=0 p=2",
]


def host(dom0: list[str], dom1: list[str]) -> Snapshot:
    """Read a dump of two domains."""
    parts = [
        "".join([f"Event channel information for domain {dom}:\n", *(f"{p}\n" for p in ports)])
        for dom, ports in enumerate((dom0, dom1))
    ]
    return dumps.read("".join(parts))[0]


def found(snapshot, **options):
    frame = inspection.inspect(snapshot, **options).findings
    return [tuple(row) for row in frame[["kind", "dom", "port"]].itertuples(index=False)]


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (["3 [1/0/1]: s=6 n=0 x=0"], [("told", 1, 3)]),
        (["3 [1/0/0]: s=6 n=0 x=0"], [("lost", 1, 3)]),
        (["3 [1/1/1]: s=6 n=0 x=0"], [("masked", 1, 3)]),
        (["3 [0/0/0]: s=2 n=0 x=0 d=0"], [("unbound", 1, 3)]),
        (["3 [0/0/0]: s=3 n=0 x=0 d=0 p=7"], [("one-sided", 1, 3)]),
        (["3 [0/0/0]: s=3 n=0 x=0 d=0 p=1"], [("one-sided", 1, 3)]),
        (["3 [0/0/0]: s=3 n=0 x=0 d=0 p=2"], [("one-sided", 1, 3)]),
        (["3 [0/0/0]: s=3 n=0 x=0 d=5 p=2"], [("one-sided", 1, 3)]),
        (["3 [0/0/0]: s=5 n=2 x=0 v=2"], [("vcpu", 1, 3)]),
        (["3 [0/0/0]: s=6 n=2 x=0", "4 [0/0/0]: s=5 n=2 x=0 v=2"], []),
        (["3 [0/0"], [("unread", -1, -1)]),
        ([f"{n} [0/0/0]: s=6 n=0 x=0" for n in range(3, 819)], []),
        ([f"{n} [0/0/0]: s=6 n=0 x=0" for n in range(3, 820)], [("limit", 1, -1)]),
        ([f"{n} [0/0/0]: s=6 n=0 x=0" for n in range(1024, 2000)], []),
    ],
)
def test_each_kind_of_trouble_is_found(lines, wanted):
    assert found(host(DOM0, [*DOM1, *lines])) == wanted


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("1 [1/0/  0   ]: s=6 n=0 x=0", "told"),
        ("1 [1/0/  -   ]: s=6 n=0 x=0", "lost"),
        ("1 [1/1/  -   ]: s=6 n=0 x=0", "masked"),
        ("1 [1/0]: s=6 n=0 x=0", "pending"),
    ],
)
def test_the_event_word_or_nothing_tells_of_the_vcpu(line, kind):
    assert found(host([], [line])) == [(kind, 1, 1)]


def test_words_name_the_other_end():
    words = {
        "3 [0/0/0]: s=3 n=0 x=0 d=0 p=7": "that port is not in use",
        "3 [0/0/0]: s=3 n=0 x=0 d=0 p=1": "that port is IPI",
        "3 [0/0/0]: s=3 n=0 x=0 d=0 p=2": "that port points to dom1 port 2",
        "3 [0/0/0]: s=3 n=0 x=0 d=5 p=2": "dom5 is not in the dump",
    }
    for line, wanted in words.items():
        (what,) = inspection.inspect(host(DOM0, [*DOM1, line])).findings["what"]
        assert wanted in what
        assert what.startswith("dom1 port 3 (INTERDOMAIN with dom")


def test_a_dump_of_one_domain_says_nothing_of_its_peers():
    (snapshot,) = dumps.read("Event channel information for domain 1:\n" + "\n".join(DOM1) + "\n")
    assert found(snapshot) == []
    assert found(dumps.read(LISTED, dom=7)[0]) == [
        ("vcpu", 7, 1),
        ("vcpu", 7, 4),
        ("unbound", 7, 2),
    ]


def test_findings_come_worst_first_and_can_be_of_one_domain():
    pending = "3 [1/0/0]: s=6 n=0 x=0"
    snapshot = host([*DOM0, "3 [0/0/0]: s=2 n=0 x=0 d=9"], [*DOM1, pending])
    assert found(snapshot) == [("lost", 1, 3), ("unbound", 0, 3)]
    told = inspection.inspect(snapshot, dom=0)
    assert told.domains["dom"].tolist() == [0]
    assert told.findings["kind"].tolist() == ["unbound"]
    assert told.channels.to_numpy().tolist() == [[0, 1, 1, 0], [1, 0, 1, 0]]
    assert [kind for kind, *_ in told.summaries()] == ["unbound"]


def test_ports_that_are_pending_in_two_dumps_are_stuck():
    before = host(DOM0, [*DOM1, *(f"{n} [1/0/1]: s=6 n=0 x=0" for n in (3, 4))])
    after = host(DOM0, [*DOM1, "3 [1/0/1]: s=6 n=0 x=0", "4 [1/1/1]: s=6 n=0 x=0"])
    assert found(after, before=before) == [("stuck", 1, 3), ("masked", 1, 4)]
    what = inspection.inspect(after, before=before).findings["what"].tolist()
    assert "the vcpu has been told" in what[0]
    assert "as in the dump before" in what[1]


def test_what_changed_between_two_dumps_is_told():
    before = host(
        [*DOM0, "3 [0/0/0]: s=6 n=0 x=0", "4 [1/0/0]: s=6 n=0 x=0", "5 [0/0/0]: s=6 n=0 x=0"],
        [*DOM1, "3 [0/0/0]: s=2 n=0 x=0 d=0", "4 [0/1/0]: s=2 n=0 x=0 d=0"],
    )
    after = host(
        [*DOM0, "3 [1/1/0]: s=6 n=0 x=0", "4 [0/0/0]: s=6 n=1 x=0"],
        [
            *(*DOM1, "3 [0/0/0]: s=5 n=0 x=0 v=3"),
            *("4 [0/0/0]: s=2 n=0 x=0 d=0", "6 [0/0/0]: s=6 n=0 x=0"),
        ],
    )
    rows = [tuple(row) for row in inspection.compare(before, after).itertuples(index=False)]
    assert rows == [
        (0, 3, "set", "pending bit"),
        (0, 3, "masked", "mask bit"),
        (0, 4, "moved", "from vcpu 0 to 1"),
        (0, 4, "cleared", "pending bit"),
        (0, 5, "closed", "IPI"),
        (1, 3, "other channel", "UNBOUND, now VIRQ"),
        (1, 4, "unmasked", "mask bit"),
        (1, 6, "opened", "IPI"),
    ]
    alone = dumps.read("Event channel information for domain 1:\n")[0]
    assert inspection.compare(after, alone)["change"].tolist()[0] == "domain gone"
    assert inspection.compare(after, after).query("change != 'stuck'").empty


def test_domains_are_counted_by_type_against_the_likely_limit():
    (snapshot,) = dumps.read(OF_2010)
    row = inspection.inspect(snapshot).domains.iloc[0].to_dict()
    assert row == {
        "dom": 0, "abi": "2l", "ports": 3, "highest": 3, "limit": 4095, "left": 4092,
        "interdomain": 1, "unbound": 0, "virq": 1, "pirq": 1, "ipi": 0, "xen": 0,
        "pending": 1, "masked": 2, "vcpus": 1, "polling": (0, 2),
    }  # fmt: skip
    fifo = host(["1 [0/0/  -   ]: s=6 n=0 x=0"], ["1200 [0/0/  -   ]: s=6 n=0 x=0"])
    assert inspection.inspect(fifo).domains["limit"].tolist() == [131_071, 131_071]


@pytest.mark.parametrize("abi", ["2l", "fifo"])
def test_a_clean_boot_has_no_findings(abi):
    trace = evtsim.workloads.generate("boot", domains=6, vcpus=3, abi=abi)
    sim = evtsim.Simulator(trace.host)
    sim.apply(trace)
    text = dumps.write(sim.state)
    told = inspection.inspect(dumps.read(text)[0])
    assert told.findings.empty
    assert told.summaries() == []
    assert (told.domains["interdomain"] > 0).all()


def test_the_page_has_every_dump_and_escapes_what_the_log_says():
    lines = [*DOM1, "3 [1/0/1]: s=6 n=0 x=0", "4 [0/0 <script>"]
    first, second = host(DOM0, lines), host(DOM0, lines)
    told = [inspection.inspect(first), inspection.inspect(second, before=first)]
    page = pages.html(told, [inspection.compare(first, second)])
    assert 'id="findings-2"' in page
    assert "Dump 2: Changes" in page
    assert "&lt;script&gt;" in page
    assert "Dump 2: 1 port pending and not masked in this dump" in page
    assert "Moments are told" not in page
    clean = pages.html([inspection.inspect(host(DOM0, DOM1))], [])
    assert "Nothing stands out" in clean
    assert "Dump 1" not in clean


def test_every_kind_has_words():
    for status, several, meaning in KINDS.values():
        assert status in inspection.STATUSES
        assert several[0].islower()
        assert meaning.endswith(".")


def dump(*lines):
    head = "(XEN) Event channel information for domain 1:"
    return dumps.read("\n".join([head, *(f"(XEN)   {line}" for line in lines), ""]))[0]


IPIS = [f"{port} [0/0/0]: s=6 n=0 x=0" for port in (1, 2, 3)]


@pytest.mark.parametrize(
    ("torn", "unread"),
    [
        ("2 [0/0/0]: s=6 n=", [2]),
        ("2 [0/0/0]: s=9 n=0 x=0", [2]),
        ("2 in flux", [2]),
        ("2", [2, 3]),  # or the beginning of 20, or the end of 12: any port of the domain
    ],
)
def test_a_port_whose_line_could_not_be_read_is_neither_opened_nor_closed(torn, unread):
    whole, other = dump(*IPIS), dump(IPIS[0], torn)
    changes = inspection.compare(whole, other)
    said = {2: "closed", 3: "closed"} | dict.fromkeys(unread, "unread")
    assert dict(zip(changes["port"], changes["change"], strict=True)) == said
    assert changes["what"][0] == "IPI, and now not read"
    changes = inspection.compare(other, whole)
    said = {2: "opened", 3: "opened"} | dict.fromkeys(unread, "unread")
    assert dict(zip(changes["port"], changes["change"], strict=True)) == said
    assert changes["what"][0] == "IPI, and not read before"


def test_a_domain_whose_header_could_not_be_read_is_neither_new_nor_gone():
    def both(header):
        heads = ("Event channel information for domain 1:", header)
        return dumps.read("\n".join(f"(XEN) {h}\n(XEN)   {IPIS[0]}" for h in heads) + "\n")[0]

    whole, torn = (
        both("Event channel information for domain 2:"),
        both("Event channel information for domain 2"),
    )
    for changes, words in (
        (inspection.compare(whole, torn), "dom2, now not read"),
        (inspection.compare(torn, whole), "dom2, not read before"),
    ):
        assert changes.to_dict("records") == [
            {"dom": 2, "port": -1, "change": "unread", "what": words}
        ]


def test_a_poll_that_could_not_be_read_hides_no_port():
    first, second = dump(*IPIS), dump("Polling vCPUs: {0,9999}", *IPIS[:2])
    assert second.problems
    assert inspection.compare(first, second)["change"].tolist() == ["closed"]
