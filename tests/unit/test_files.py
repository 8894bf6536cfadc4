"""Trace files: what is written is read back, what is damaged is noticed."""

import gzip
import random
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import evtsim
from evtsim import EvtsimError, Trace, TraceError, workloads
from evtsim._files import written_whole
from evtsim.trace import chunk

SUFFIXES = (".arrow", ".parquet", ".csv", ".csv.gz")
HEADER = "ts,dom,vcpu,op,flags,arg0,arg1\n"


@pytest.fixture(scope="module")
def trace():
    plain = workloads.generate("channels", records=700, domains=5, vcpus=2, ports=9, seed=3)
    run = evtsim.replay(plain)
    table = np.zeros(len(plain), evtsim.RECORD_DTYPE)
    for name in evtsim.RECORD_DTYPE.names:
        table[name] = getattr(plain, name)
    return Trace.from_records(table, plain.host, run.outcomes, plain.meta)


def same(a, b):
    return (
        a.digest() == b.digest()
        and a.host == b.host
        and a.meta == b.meta
        and len(dict(a.recorded.fields())) == len(dict(b.recorded.fields()))
        and all(np.array_equal(c, getattr(b.recorded, n)) for n, c in a.recorded.fields())
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(trace, tmp_path, suffix):
    path = tmp_path / f"trace{suffix}"
    trace.save(path)
    assert same(Trace.load(path), trace)
    assert evtsim.verify(Trace.load(path))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_writing_twice_gives_the_same_bytes(trace, tmp_path, suffix):
    for name in ("a", "b"):
        trace.save(tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_empty_traces_and_traces_without_host(tmp_path, suffix):
    path = tmp_path / f"trace{suffix}"
    Trace.from_records(np.zeros(0, evtsim.RECORD_DTYPE)).save(path)
    loaded = Trace.load(path)
    assert len(loaded) == 0
    assert loaded.host is None
    assert loaded.ts.tolist() == []


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_many_chunks(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(Trace.stretches, "__defaults__", (100,))
    long = workloads.generate("channels", records=1050, domains=4)
    long.save(tmp_path / f"t{suffix}")
    monkeypatch.undo()
    loaded = Trace.load(tmp_path / f"t{suffix}")
    assert len(loaded._chunks) == 11
    part = loaded[150:420]
    assert part.ts.tolist() == long.ts[150:420].tolist()
    assert loaded.digest() == long.digest()


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_any_flipped_bit_is_noticed_or_harmless(trace, tmp_path, suffix):
    path = tmp_path / f"trace{suffix}"
    trace.save(path)
    good = path.read_bytes()
    random.seed(7)
    broken = tmp_path / f"broken{suffix}"
    noticed = 0
    for position in random.sample(range(len(good)), 700):
        bad = bytearray(good)
        bad[position] ^= 1 << random.randrange(8)
        broken.write_bytes(bad)
        try:
            loaded = Trace.load(broken)
            assert same(loaded, trace), f"byte {position}"
        except EvtsimError as error:
            assert str(broken) in str(error)
            assert "\n" not in str(error)
            noticed += 1
    assert noticed > 300


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_cut_and_foreign_files_are_refused(trace, tmp_path, suffix):
    path = tmp_path / f"trace{suffix}"
    trace.save(path)
    good = path.read_bytes()
    random.seed(11)
    contents = [b"", b"\0" * 100, random.randbytes(5000)]
    if suffix != ".csv":  # a cut CSV may well be whole
        contents += [good[:-1], good[: len(good) // 2], good[:9]]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(TraceError) as caught:
            Trace.load(path).validate()
            Trace.load(path).columns
        assert str(path) in str(caught.value)


def test_a_damaged_chunk_is_found_when_it_is_replayed(trace, tmp_path):
    path = tmp_path / "t.arrow"
    trace.save(path)
    data = bytearray(path.read_bytes())
    place = data.index(trace.arg0.tobytes())
    data[place + 8] ^= 1
    path.write_bytes(data)
    loaded = Trace.load(path)
    sim = evtsim.Simulator(loaded.host)
    with pytest.raises(TraceError, match="records 0 to 699 do not match their checksum"):
        sim.apply(loaded)
    assert sim.records == 0


def test_a_later_format_is_refused(trace, tmp_path, monkeypatch):
    monkeypatch.setattr("evtsim.trace.header.FORMAT", 2)
    trace.save(tmp_path / "t.arrow")
    monkeypatch.undo()
    with pytest.raises(TraceError, match="newer evtsim"):
        Trace.load(tmp_path / "t.arrow")


def strangers_table(trace):
    """A table as another program would write it: wide integers, words, columns of its own."""
    words = [evtsim.abi.op_name(op) for op in trace.op.tolist()]
    columns = {
        name: pa.array(getattr(trace, name).astype(np.int64)) for name in ("ts", "dom", "vcpu")
    }
    columns["op"] = pa.array(words).dictionary_encode()
    columns |= {n: pa.array(getattr(trace, n).astype(np.int64)) for n in ("flags", "arg0", "arg1")}
    columns["comment"] = pa.array(["x"] * len(trace))
    return pa.table(columns)


def test_strangers_files_are_accepted(trace, tmp_path):
    table = strangers_table(trace)
    with pa.ipc.new_file(tmp_path / "t.arrow", table.schema) as sink:
        sink.write_table(table)
    pq.write_table(table, tmp_path / "t.parquet")
    for name in ("t.arrow", "t.parquet"):
        loaded = Trace.load(tmp_path / name, trace.host)
        assert loaded.digest() == trace.digest()
        assert loaded.recorded is None


def test_a_strangers_value_that_does_not_fit_is_named(trace, tmp_path):
    table = strangers_table(trace)
    arg0 = trace.arg0.astype(np.int64)
    arg0[17] = -1
    table = table.set_column(table.schema.get_field_index("arg0"), "arg0", pa.array(arg0))
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(TraceError, match="record 17, field arg0: value does not fit: -1"):
        Trace.load(tmp_path / "t.parquet").columns
    missing = pa.array([None if i == 5 else 0 for i in range(len(trace))], pa.int64())
    table = table.set_column(table.schema.get_field_index("arg0"), "arg0", missing)
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(TraceError, match="record 5, field arg0: no value"):
        Trace.load(tmp_path / "t.parquet").columns


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no header row"),
        ("1,0,0,send,0,1,0\n", "no column ts"),
        ("ts,dom,vcpu,op,flags,arg0\n1,0,0,1,0,1\n", "record 0, field arg1: no such column"),
        (HEADER + "1,0,0,send,0,1,0\n2,0,0,send\n", "record 1: 4 fields"),
        (HEADER + "1,0,0,send,0,1,0,9\n", "record 0: 8 fields"),
        (HEADER + "1,0,0,send,0,one,0\n", "record 0, field arg0: not a value of this field: 'one'"),
        (HEADER + "1,0,0,sned,0,1,0\n", "record 0, field op: not a value of this field: 'sned'"),
        (HEADER + "1,0,0,send,0,1,0\n2,0,0,send,0,4294967296,0\n", "record 1, field arg0"),
        (HEADER + "1,65536,0,send,0,1,0\n", "record 0, field dom"),
        (HEADER + "1,0,0,send,0,-1,0\n", "record 0, field arg0: not a value of this field: '-1'"),
        (HEADER + "1,0,0,send,0,,0\n", "record 0, field arg0"),
        (HEADER + "1,0,0,send,0,1.5,0\n", "record 0, field arg0"),
        (
            HEADER + "2,0,0,send,0,1,0\n1,0,0,send,0,1,0\n",
            "record 1, field ts: time runs backwards",
        ),
        ("# host: {}\n" + HEADER, "'# host:' line: host: no domains"),
    ],
)
def test_wrong_csv_is_named(tmp_path, text, words):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(TraceError) as caught:
        trace = Trace.load(path, evtsim.Host.uniform(1))
        evtsim.replay(trace)
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_csv_as_people_write_it(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(
        b"# a comment\n"
        b'# host: {"domains": [{"count": 2}]}\n'
        b"ts,dom,vcpu,op,flags,arg0,arg1,note\r\n"
        b"1,0,0,alloc_unbound,0,32752,1,first\r\n"
        b"\r\n"
        b"# in between, with, commas, in, it, and, more\r\n"
        b'2,1,0,"BIND_INTERDOMAIN",0,0,1,\r\n'
        b"3,1,0,4,0,0x1,0,"
    )
    trace = Trace.load(path)
    assert trace.op.tolist() == [6, 0, 4]
    assert evtsim.replay(trace).outcomes.rc.tolist() == [0, 0, 0]


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path):
    (tmp_path / "t.csv").write_bytes((HEADER + "1,0,0,send,0,1,0\n").encode("utf-8-sig"))
    assert Trace.load(tmp_path / "t.csv").op.tolist() == [4]


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_two_columns_of_one_name_are_refused(trace, tmp_path, suffix):
    table = strangers_table(trace).append_column("arg0", pa.array([0] * len(trace)))
    path = tmp_path / f"t{suffix}"
    if suffix == ".arrow":
        with pa.ipc.new_file(path, table.schema) as sink:
            sink.write_table(table)
    else:
        pq.write_table(table, path)
    with pytest.raises(TraceError, match="two columns of one name"):
        Trace.load(path)


def test_a_strangers_damaged_words_are_refused(tmp_path, trace):
    """Offsets that point nowhere must not be followed."""
    table = strangers_table(trace)
    words = pa.array([str(n) for n in trace.arg0.tolist()])
    table = table.set_column(table.schema.get_field_index("arg0"), "arg0", words)
    path = tmp_path / "t.arrow"
    with pa.ipc.new_file(path, table.schema) as sink:
        sink.write_table(table)
    data = bytearray(path.read_bytes())
    place = data.index(words.buffers()[1].to_pybytes()[: 4 * len(trace)])
    data[place + 4 * 50 + 3] ^= 0x40
    path.write_bytes(data)
    with pytest.raises(TraceError, match="not valid Arrow data"):
        Trace.load(path).columns


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_links_stay_what_they_are(trace, tmp_path, suffix):
    real = tmp_path / "real"
    real.write_text("old")
    (tmp_path / f"link.{suffix}").symlink_to("real")
    trace.save(tmp_path / f"link.{suffix}")
    assert (tmp_path / f"link.{suffix}").is_symlink()
    assert Trace.load(tmp_path / f"link.{suffix}").digest() == trace.digest()
    assert Trace.load(real.rename(tmp_path / f"real.{suffix}")).digest() == trace.digest()


def test_a_first_record_of_too_many_digits_is_refused(tmp_path):
    for digits, words in ((20, None), (21, "no record's number"), (5000, "no record's number")):
        (tmp_path / "t.csv").write_text(f"# first: {'1' * digits}\n{HEADER}1,0,0,send,0,1,0\n")
        if words is None:
            assert Trace.load(tmp_path / "t.csv").first == int("1" * digits)
        else:
            with pytest.raises(TraceError, match=words):
                Trace.load(tmp_path / "t.csv")


def test_errors_name_the_file_that_the_system_named(tmp_path):
    with (
        pytest.raises(EvtsimError, match=r"source\.txt: no such file"),
        written_whole(tmp_path / "t.csv"),
    ):
        (tmp_path / "source.txt").read_text()
    with pytest.raises(EvtsimError, match="/dev/full: No space left"):
        evtsim.Host.uniform(2).to_json("/dev/full")
    assert list(tmp_path.iterdir()) == []


def test_a_cut_gzip_file_is_refused(tmp_path):
    path = tmp_path / "t.csv.gz"
    whole = gzip.compress((HEADER + "1,0,0,send,0,1,0\n" * 1000).encode())
    path.write_bytes(whole[:-12])
    with pytest.raises(TraceError, match="not a whole gzip file"):
        Trace.load(path)
    path.write_bytes(whole[:30] + b"\xff" + whole[31:])
    with pytest.raises(TraceError, match="gzip"):
        Trace.load(path)


def test_paths_that_are_no_trace_files(tmp_path):
    (tmp_path / "notes.txt").write_text("notes")
    for path, words in (
        (tmp_path / "missing.arrow", "no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "trace.txt", "no such file"),
        (tmp_path / "notes.txt", "unknown suffix"),
    ):
        with pytest.raises(TraceError, match=words):
            Trace.load(path)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TraceError, match="is a folder"):
        Trace.load(tmp_path / "folder.csv")


def test_a_failed_save_leaves_what_was_there(trace, tmp_path, monkeypatch):
    path = tmp_path / "t.arrow"
    path.write_bytes(b"precious")
    with pytest.raises(EvtsimError, match="exists already"):
        trace.save(path, overwrite=False)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("evtsim.trace.arrow.checksum", fail)
    with pytest.raises(EvtsimError, match="No space left"):
        trace.save(path)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_checksums_are_crc32(trace):
    """Other programs may check them: plain CRC-32 over the columns' bytes, in order."""
    from evtsim.trace.columns import checksum

    whole = b"".join(column.tobytes() for column in trace.columns)
    assert checksum(trace.columns, None) == zlib.crc32(whole)


def test_chunks_are_small_enough_to_stay_in_a_cache():
    assert chunk.CHUNK_RECORDS * evtsim.RECORD_DTYPE.itemsize <= 1 << 22
