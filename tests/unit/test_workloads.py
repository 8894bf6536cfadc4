"""Workloads as such: one seed one trace, parameters, streams, replays without errors."""

import itertools

import numpy as np
import pytest

import evtsim
from evtsim import EvtsimError, workloads
from evtsim.abi import Op

# Golden: a change needs a new generator number in the traces' provenance.
DIGESTS = {
    "mixed": "7187d2da03d7c3bc1536582f387dab6fc536c5c09eb64dd62c0fd5aedd4629a7",
    "boot": "da86120008b6ada726d7da1dd331460dd7a4d06e6176ee9de98f56c5d5033bad",
    "io": "2c339c4dc399cc72a9ae6a835bd170a01ef2219c9b0f327128980e6de68b4d63",
    "ipi": "8052fb984f5213830643a885b3ea838a8f3803860f954b564674435be7b50669",
    "timer": "b2f1a71c74e52fe04dec9ebb67e522aa6a854317e37a97ec607ca24faf566efd",
    "pirq": "5c839d3c6feb532ecdcb0a4c6b15de9f5a9b61d279b0ae6b5e4866bcfe22652a",
    "storm": "ca6271879b0dce8b67aee800b15b3167a68c670eff5542cbd4c22a5d95654293",
    "churn": "96e7e3943c47eeeba118c433c5e60cba2607da598d32e4dd29e00a979fb2ca7e",
    "migrate": "addf2a997ad7fe4452c70291d5e4f9af64ddbf6b17f8d2fe8c4207553d3ea5f4",
    "exhaust": "dbc056342ac72f38a83be9daf83e8c65b05b48f435d72cbdc4f6f12f2081b3e4",
    "hostile": "7874384a7228dceac41cf8b04e00cb5414489230eff79bae8dfee157dfc65277",
    "channels": "35a858854b85a5fedbf26d45b555a0112c2ad3cfd8660be78803c2f924beb31c",
}
FIFO_DIGESTS = {
    "mixed": "126adb837fda89a83cd69b03164db201e62a35ff51f4fa5921925ea990ae1282",
    "boot": "5b4576b6ae70a0d914a7de7fb4458af8ec3345d68c406f00916d4d82cdac080c",
    "io": "09629a8316952bdda166de03e4c3af40c0b4ec19ca5e071e3f356b6eca2540cc",
    "ipi": "7671fc4c0953fcc4e78d1b97eeba8a79e856eecc13f2e4a5de10fc825d4dd7f3",
    "timer": "31c9063bf99eff545326c81c6250e254ac77d58cfb3148640d9614f20199eb9d",
    "pirq": "09c7c04a9d6d59c880716529d2163c5e424cd5e2db39a40222eb9843a3b4b4a1",
    "storm": "1eb08b67657f115550dc9376ec6a2635694b3c9b05c25e2c42bfaccf45db225d",
    "churn": "650964bc44e59a98be779608a10653f684f84313fb82e816b13c780d117b0446",
    "migrate": "5f524f7f38e2487c35f2cca3fd593be6c2837d113670c4ed85d24a35f9720f5a",
    "exhaust": "d4787e1c78880df65b000ddbdd38570990c32b016b9a988e1032ce35ac96cf4a",
    "channels": "b655fdd052610f06d6fa7e7ccdcbb758e621446d3ba601bc23d23aa3a09026fa",
}
FAILING = ("exhaust", "hostile", "churn")  # whose failures are the point
EVENT_DRIVEN = sorted(workloads.REGISTRY.keys() - {"hostile", "channels"})
SMALL = evtsim.Host("xen-4.23", [evtsim.Domain(privileged=True), evtsim.Domain(max_port=10)])
TWO_LEVEL = [(name, {}) for name in workloads.REGISTRY]
MODERN = [(name, {"profile": "xen-4.23"}) for name in workloads.REGISTRY]
FIFO = [(name, {"abi": "fifo"}) for name in (*EVENT_DRIVEN, "channels")]


def under(*cases, without=()):
    """Parametrize by workload and ABI."""
    return pytest.mark.parametrize(
        ("name", "abi"),
        [
            pytest.param(name, abi, id="-".join([name, *abi.values()]))
            for name, abi in itertools.chain(*cases)
            if name not in without
        ],
    )


def joined(chunks):
    return [np.concatenate(columns) for columns in zip(*chunks, strict=True)]


def same(some, others):
    return all(np.array_equal(a, b) for a, b in zip(some, others, strict=True))


@under(TWO_LEVEL, FIFO)
def test_one_seed_one_trace(name, abi):
    trace = workloads.generate(name, records=20_000, **abi)
    assert trace.digest() == workloads.generate(name, records=20_000, **abi).digest()
    assert trace.digest() != workloads.generate(name, records=20_000, seed=1, **abi).digest()
    assert trace.digest() == (FIFO_DIGESTS if abi else DIGESTS)[name]


@under(TWO_LEVEL, FIFO)
@pytest.mark.parametrize("deliver", ["trace", "model"])
def test_the_trace_does_not_depend_on_chunks(name, abi, deliver):
    stream = workloads.stream(name, records=5000, deliver=deliver, domains=6, **abi)
    whole = joined(stream.chunks())
    assert len(whole[0]) <= 5000
    assert same(whole, joined(stream.chunks(size=97)))
    assert same(whole, joined(stream.chunks(size=1))), "a walk changes the stream"


@under(TWO_LEVEL, FIFO)
def test_without_upcalls_the_trace_is_the_same_otherwise(name, abi):
    with_upcalls = workloads.generate(name, records=20_000, **abi)
    without = workloads.generate(name, records=20_000, deliver="model", **abi)
    assert not (without.op == Op.UPCALL).any()
    kept = with_upcalls.op != Op.UPCALL
    columns = [column[kept] for column in with_upcalls.columns]
    assert same(columns, [column[: kept.sum()] for column in without.columns])


@under(TWO_LEVEL, MODERN, FIFO, without=FAILING)
@pytest.mark.parametrize(("deliver", "guest"), [("trace", None), ("model", evtsim.Guest())])
def test_no_record_fails(name, abi, deliver, guest):
    trace = workloads.generate(name, deliver=deliver, seed=5, **abi)
    totals = evtsim.replay(trace, guest=guest).totals()
    assert all(totals[what] == 0 for what in ("errors", "dropped", "saved", "no_control_block"))
    assert totals["delivered"] > 0.95 * totals["set"]


@under(TWO_LEVEL, MODERN, FIFO, without=("churn", "exhaust", "hostile", "channels"))
def test_every_upcall_follows_a_kick(name, abi):
    run = evtsim.replay(workloads.generate(name, **abi), outcomes=True)
    vcpus = run.vcpus
    assert vcpus["ignored_upcalls"].sum() == 0
    outstanding = vcpus["kicks"] - vcpus["upcalls"]
    assert outstanding.between(0, 1).all() or name == "migrate"
    assert vcpus["spurious"].sum() < 0.01 * vcpus["upcalls"].sum() or name == "boot"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mixed", {"churn_rate": 1000, "down_ns": "1ms", "phase_ns": 0}),
        ("churn", {"races": 0, "rate": 500, "down_ns": 0, "phase_ns": "10us"}),
        ("migrate", {"rate": 1000, "down_ns": 0, "wake_ns": "2ms"}),
        ("io", {"domains": 1500, "records": 200_000}),
        ("io", {"rate": 1e7, "gap_ns": 0, "wake_ns": 0, "service_ns": 0, "batching": 0}),
        ("ipi", {"vcpus": 70, "domains": 3, "broadcast": 1}),
        ("pirq", {"drivers": 3, "rate": 1e5, "domains": 30}),
        ("mixed", {"domains": 2, "vcpus": 1, "devices": 1, "dom0_vcpus": 1}),
        ("boot", {"domains": 40, "drivers": 5, "rate": 1e6}),
        ("churn", {"abi": "fifo", "races": 0, "rate": 500, "down_ns": 0, "wake_ns": "1ms"}),
        ("migrate", {"abi": "fifo", "rate": 1000, "down_ns": 0, "wake_ns": "2ms"}),
        ("boot", {"abi": "fifo", "domains": 600, "rate": 1e6, "phase_ns": 0}),
        ("io", {"abi": "fifo", "devices": 64, "domains": 40, "priorities": "devices"}),
    ],
)
def test_no_record_fails_at_the_edges(name, parameters):
    trace = workloads.generate(name, **parameters)
    run = evtsim.replay(trace)
    assert run.totals()["errors"] == 0
    assert run.vcpus["ignored_upcalls"].sum() == 0
    assert not trace.validate().errors


def test_a_host_of_the_users():
    domains = [evtsim.Domain(vcpus=3, privileged=True, nr_pirqs=2, pirq_permitted=True)]
    domains += [evtsim.Domain(vcpus=1 + i % 5, word_bits=32, alive=i % 3 > 0) for i in range(40)]
    host = evtsim.Host(domains=domains)
    for name in sorted(workloads.REGISTRY.keys() - set(FAILING)):
        trace = workloads.generate(name, host=host, records=20_000)
        assert trace.host == host
        assert evtsim.replay(trace).totals()["errors"] == 0, name
        assert "domains" not in trace.meta["parameters"]


@pytest.mark.parametrize("name", ["domains", "vcpus", "profile"])
def test_a_host_and_its_size_exclude_each_other(name):
    with pytest.raises(EvtsimError, match=f"^host= and {name}= exclude each other$"):
        workloads.generate("io", host=evtsim.Host.uniform(3), **{name: 3})


def test_extent():
    trace = workloads.generate("timer", duration_ns="100ms", start_ns="5s")
    assert trace.ts[0] == 5_000_000_000
    assert 5_099_000_000 < trace.ts[-1] < 5_100_000_000
    both = workloads.generate("timer", duration_ns="100ms", start_ns="5s", records=1000)
    assert same(both.columns, trace[:1000].columns)
    assert len(workloads.generate("io", records=0)) == 0
    assert len(workloads.generate("io", duration_ns=0)) == 0
    assert len(workloads.generate("channels", duration_ns=7000)) == 7


@pytest.mark.parametrize("suffix", [".arrow", ".parquet", ".csv"])
def test_write_is_generate_into_a_file(tmp_path, suffix):
    told = []
    path = tmp_path / f"t{suffix}"
    given = {"records": 300_000 if suffix == ".arrow" else 2000, "domains": 9, "seed": 3}
    workloads.write(path, "io", progress=lambda *done: told.append(done), **given)
    trace = evtsim.Trace.load(path)
    whole = workloads.generate("io", **given)
    assert trace.digest() == whole.digest()
    assert trace.host == whole.host
    assert trace.meta == whole.meta or suffix == ".csv"
    assert told[-1] == (given["records"], given["records"])
    with pytest.raises(EvtsimError, match="exists already"):
        workloads.write(path, "io", overwrite=False, **given)


def test_drivers_come_where_dom0_lacks_the_ports():
    small, large = (workloads.stream("io", domains=n).host.domains for n in (900, 4000))
    assert (small["vcpus"] == 4).sum() == 1
    assert (large["vcpus"] == 4).sum() == 5


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("channels", {"domains": 1}, "domains is 1 (expected 2 to 32,752)"),
        ("channels", {"ports": 5000}, "5,000 ports of 16 living domains (expected at most 4,096"),
        ("channels", {"ports": 131_073}, "ports is 131073 (expected 2 to 131,072)"),
        ("channels", {"rate": 0}, "rate is 0"),
        ("channels", {"upcalls": 0.9, "masks": 0.2}, "sum up to 1.1"),
        ("channels", {"upcalls": -0.1}, "upcalls is -0.1 (expected 0 to 1)"),
        ("channels", {"colour": 1}, "no parameter 'colour'"),
        ("channels", {"records": -1}, "records is -1"),
        ("channels", {"records": 1.5}, "records is 1.5"),
        ("channels", {"rate": "x"}, "rate is 'x'"),
        ("channels", {"host": evtsim.Host.uniform(1)}, "two domains"),
        ("io", {"domains": True}, "domains is True"),
        ("io", {"rate": float("nan")}, "rate is nan"),
        ("io", {"gap_ns": "2 hours"}, "gap_ns is '2 hours'"),
        ("io", {"gap_ns": "2k"}, "gap_ns is '2k'"),
        ("io", {"bursts": "none"}, "bursts is 'none' (expected pareto or exponential)"),
        ("io", {"deliver": 1}, "deliver is 1 (expected trace or model)"),
        ("io", {"seed": 2**64}, "seed is 18446744073709551616"),
        ("io", {"domains": 3, "drivers": 2}, "leave no guest"),
        ("io", {"host": evtsim.Host.uniform(2000)}, "domain 0 would need 8,005 ports"),
        ("io", {"host": evtsim.Host(domains=[evtsim.Domain()] * 2)}, "not alive and privileged"),
        ("io", {"host": 4}, "host is 4"),
        ("pirq", {"host": evtsim.Host.uniform(4)}, "no PIRQs"),
        ("ipi", {"vcpus": 1}, "vcpus is 1 (expected 2 to 512)"),
        ("io", {"abi": "3l"}, "abi is '3l' (expected 2l or fifo)"),
        ("io", {"profile": "xen"}, "profile is 'xen' (expected xen-4.0 or xen-4.23)"),
        ("io", {"abi": "fifo", "profile": "xen-4.0"}, "which profile xen-4.0 lacks"),
        ("channels", {"abi": "fifo", "host": evtsim.Host.uniform(2)}, "which profile xen-4.0"),
        ("io", {"abi": "fifo", "host": SMALL}, "domain 1 would need 11 ports (expected at most 10"),
    ],
)
def test_parameters_out_of_range(name, parameters, words):
    with pytest.raises(EvtsimError) as caught:
        workloads.generate(name, **parameters)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"), [("20us", 20_000), ("1.5 ms", 1_500_000), ("2s", 2 * 10**9), ("7", 7)]
)
def test_times_as_people_write_them(text, value):
    trace = workloads.stream("io", gap_ns=text)
    assert trace.meta["parameters"]["gap_ns"] == value


def test_unknown_workload():
    with pytest.raises(EvtsimError, match="no workload 'nothing'"):
        workloads.generate("nothing")


def test_every_parameter_is_declared_once_and_for_all():
    for workload in workloads.REGISTRY.values():
        names = [parameter.name for parameter in workload.parameters]
        assert len(set(names)) == len(names)
        assert {"records", "duration_ns", "start_ns", "seed", "deliver", "domains"} <= set(names)
        for parameter in workload.parameters:
            assert parameter.what
            if parameter.default is not None:
                assert parameter.read(parameter.default) == parameter.default
                assert parameter.read(parameter.default_text.replace(",", "")) == parameter.default


def test_a_choice_of_numbers_may_be_a_number():
    given = [workloads.generate("exhaust", records=500, word_bits=bits) for bits in (32, "32", 64)]
    assert given[0].digest() == given[1].digest() != given[2].digest()
