"""Traces that go by: any file, any chunks, the same records."""

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

import evtsim
from evtsim import EvtsimError, Trace, TraceError, workloads
from evtsim.trace import TraceReader
from evtsim.trace.chunk import CHUNK_RECORDS
from evtsim.trace.digest import Digest


@pytest.fixture(scope="module")
def trace():
    return workloads.generate("channels", records=300_000, domains=5)


def digest_of(reader):
    digest, number = Digest(), reader.first
    for piece in reader:
        assert len(piece) <= CHUNK_RECORDS
        assert piece.first == number
        digest.update(piece.columns)
        number += len(piece)
    return digest.of(reader.host)


@pytest.mark.parametrize("suffix", [".arrow", ".parquet", ".csv", ".csv.gz"])
def test_a_file_goes_by_as_it_is(trace, tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    trace[1000:].save(path)
    reader = TraceReader(path)
    assert reader.records == (None if "csv" in suffix else 299_000)
    assert (reader.host, reader.meta, reader.first) == (trace.host, trace.meta, 1000)
    assert digest_of(reader) == trace[1000:].digest()
    with pytest.raises(EvtsimError, match="a reader reads once"):
        iter(reader)
    lengths = [len(piece) for piece in TraceReader(path)]
    assert lengths == [CHUNK_RECORDS, CHUNK_RECORDS, 299_000 - 2 * CHUNK_RECORDS]


@pytest.mark.parametrize("suffix", [".arrow", ".parquet", ".csv"])
def test_as_many_records_are_taken_as_are_asked_for(trace, tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    Trace.concat([trace[:70_000], trace[70_000:]]).save(path)
    reader, digest, lengths = TraceReader(path), Digest(), []
    for records in (1, 100_000, 150_000, 5, 100_000, 7):
        piece = reader.take(records)
        assert piece.first == sum(lengths)
        lengths.append(len(piece))
        digest.update(piece.columns)
        assert piece.ts.flags.c_contiguous
    assert lengths == [1, 100_000, 150_000, 5, 49_994, 0]
    assert digest.of(reader.host) == trace.digest()


@pytest.mark.parametrize("records", [-1, 2.5])
def test_no_number_of_records_is_refused_and_costs_none(trace, records):
    reader = TraceReader.of(trace)
    with pytest.raises(EvtsimError, match=r"records is .* \(expected 0 or more\)"):
        reader.take(records)
    assert len(reader.take(10)) == 10


def test_what_stands_in_front_of_damage_is_taken_first(trace, tmp_path):
    path = tmp_path / "t.arrow"
    trace.save(path)
    data = bytearray(path.read_bytes())
    where = data.find(trace.ts[200_000:200_010].tobytes())
    data[where] ^= 1
    path.write_bytes(data)
    reader = TraceReader(path)
    assert len(reader.take(1_000_000)) == CHUNK_RECORDS
    with pytest.raises(TraceError, match="records 131072 to 262143 do not match their checksum"):
        reader.take(1_000_000)
    with pytest.raises(EvtsimError, match="a reader reads once"):
        reader.take(1)
    taken = []
    with pytest.raises(TraceError, match="records 131072 to 262143"):
        for start, columns, _ in Trace.load(path).stretches(1 << 20, joined=True):
            taken.append((start, len(columns.ts)))
    assert taken == [(0, CHUNK_RECORDS)]


def test_pieces_of_a_trace_are_joined_with_what_was_recorded(trace):
    recorded = evtsim.replay(trace, stats=None).outcomes
    table = np.zeros(len(trace), evtsim.RECORD_DTYPE)
    for name, column in trace.columns._asdict().items():
        table[name] = column
    whole = Trace.from_records(table, trace.host, recorded)
    pieces = Trace.concat([whole[:100_000], whole[100_000:100_001], whole[100_001:]])
    starts = []
    for start, columns, outcomes in pieces.stretches(110_000, joined=True):
        starts.append(start)
        part = slice(start, start + 110_000)
        assert np.array_equal(columns.arg0, trace.arg0[part])
        for name, column in outcomes.fields():
            assert np.array_equal(column, getattr(recorded, name)[part])
        assert not columns.ts.flags.writeable
    assert starts == [0, 110_000, 220_000]
    assert [start for start, _, _ in pieces.stretches(110_000)] == [0, 100_000, 100_001, 210_001]


def test_a_trace_in_memory_goes_by_likewise(trace):
    assert digest_of(TraceReader.of(trace)) == trace.digest()


@pytest.mark.parametrize("kind", ["lz4", "one batch", "one row group"])
def test_strangers_large_pieces_are_cut(trace, tmp_path, kind):
    """Wide integers, which must be copied: piece by piece."""
    table = pa.table(
        {name: getattr(trace, name).astype(np.int64) for name in trace.columns._fields}
    )
    path = tmp_path / ("t.parquet" if kind == "one row group" else "t.arrow")
    if kind == "one row group":
        pq.write_table(table, path, row_group_size=len(table))
    else:
        compression = "lz4" if kind == "lz4" else "uncompressed"
        feather.write_feather(table, path, compression=compression, chunksize=len(table))
    assert TraceReader(path, trace.host).records == len(trace)
    assert digest_of(TraceReader(path, trace.host)) == trace.digest()
    assert Trace.load(path, trace.host).digest() == trace.digest()
    assert Trace.load(path).columns.arg0.tolist() == trace.arg0.tolist()
    bad = table.column("arg0").to_numpy().copy()
    bad[200_000] = -1
    table = table.set_column(5, "arg0", pa.array(bad))
    if kind == "one row group":
        pq.write_table(table, path, row_group_size=len(table))
    else:
        feather.write_feather(table, path, compression=compression, chunksize=len(table))
    with pytest.raises(TraceError, match="record 200000, field arg0: value does not fit"):
        digest_of(TraceReader(path))


def test_time_that_runs_backwards_is_named_wherever_pieces_are_cut(trace, tmp_path):
    table = pa.table({name: getattr(trace, name) for name in trace.columns._fields})
    ts = trace.ts.copy()
    ts[CHUNK_RECORDS] = 1
    path = tmp_path / "t.parquet"
    pq.write_table(table.set_column(0, "ts", pa.array(ts)), path)
    with pytest.raises(TraceError, match=f"record {CHUNK_RECORDS}, field ts: time runs backwards"):
        digest_of(TraceReader(path))


def test_a_late_host_line_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("evtsim.trace.csv.BLOCK", 64)
    path = tmp_path / "t.csv"
    rows = "1,0,0,send,0,1,0\n" * 20
    path.write_text(f"ts,dom,vcpu,op,flags,arg0,arg1\n{rows}# host: {{}}\n{rows}")
    with pytest.raises(TraceError, match=r"'# host:' line .expected it before records"):
        digest_of(TraceReader(path))


def test_numbers_that_only_people_write_are_read_in_blocks_of_plain_ones(tmp_path, monkeypatch):
    monkeypatch.setattr("evtsim.trace.csv.BLOCK", 64)
    path = tmp_path / "t.csv"
    rows = "1,0,0,send,0,1,0\n" * 8
    path.write_text(f"ts,dom,vcpu,op,flags,arg0,arg1\n{rows}1, 0 ,0,SEND,0,0x10,007\n{rows}")
    loaded = Trace.load(path)
    assert loaded.arg0.tolist() == [1] * 8 + [16] + [1] * 8
    assert loaded.arg1.tolist() == [0] * 8 + [7] + [0] * 8
    path.write_text(f"ts,dom,vcpu,op,flags,arg0,arg1\n{rows}1,0,0,send,0,NULL,0\n")
    with pytest.raises(TraceError, match="record 8, field arg0: not a value of this field: 'NULL'"):
        Trace.load(path)


def test_a_file_of_ours_keeps_nothing_but_views(trace, tmp_path):
    trace.save(tmp_path / "t.arrow")
    loaded = Trace.load(tmp_path / "t.arrow")
    for _, columns, _ in loaded.stretches():
        assert not columns.ts.flags.owndata
    assert evtsim.replay(loaded).records == len(trace)
