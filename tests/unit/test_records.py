"""Records come from where they say, where that is believed; they keep their headers on the way to deduplication."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.packing import Headers, Sent, columns, records
from udfs.decode import Columns
from udfs.headers import RELAYED_HEADER
from udfs.packs import Unpacked, unpack
from udfs.records import Arrived, Origin, Records, arrive, arrive_again, by_bucket, parts_of, sources
from udfs.spec import Field, Inlet

INLETS = (
    Inlet("east", "one"),
    Inlet("east", "two"),
    Inlet("west", "one", "west.copies"),
    Inlet("west", None, "west.copies"),
)
LAST_MS = 253_370_764_799_000


def found(*sent: Sent) -> Unpacked:
    return unpack(*columns([sent]))


def arrived(source: str, *sent: Sent) -> Arrived:
    number = sources(INLETS).index(source)
    return arrive(found(*sent), np.full(len(sent), number), np.full(len(sent), 3), INLETS)


def own(came: Arrived) -> list[Headers]:
    """The headers of each record, as they came."""
    return [tuple(headers) for headers in came.headers.to_pylist()]


def accepted(came: Arrived, *fields: str, buckets: int = 1) -> dict[int, Records]:
    """All records of a batch by bucket, as they come out of decoding in reverse order."""
    rows = np.arange(len(came.offset))[::-1]
    named = {name: pa.array([f"{name} {row}" for row in rows.tolist()]) for name in fields}
    identity = [Field(name, "string") for name in fields]
    return dict(by_bucket(came, Columns(rows, 1000 + rows, named), identity, buckets))


def test_each_topic_is_read_once() -> None:
    assert sources(INLETS) == ["one", "two", "west.copies"]


def test_a_record_that_is_read_directly_comes_from_where_it_stands() -> None:
    forged = ((RELAYED_HEADER, b"1 7 0 other"),)
    came = arrived("two", Sent(offset=5), Sent(offset=6, headers=forged))
    assert [came.origin(row) for row in (0, 1)] == [Origin("east", "two", 3, 5), Origin("east", "two", 3, 6)]
    assert own(came) == [(), forged]
    assert came.relayed_ms.tolist() == [-1, -1]


def test_a_copy_comes_from_where_its_relay_has_read_it() -> None:
    several = (("own", b"\xff"), ("none", None), ("own", b""))
    came = arrived(
        "west.copies",
        Sent(offset=5, headers=((RELAYED_HEADER, b"1 70 1767225600 one"),)),
        Sent(offset=6, headers=(several[0], (RELAYED_HEADER, b"2 71 0 a.topic-that_was"), *several[1:])),
        Sent(offset=7, headers=((RELAYED_HEADER, b"1 72 999999999999999999 one"),)),
    )
    assert [came.origin(row) for row in range(3)] == [
        Origin("west", "one", 1, 70),
        Origin("west", "a.topic-that_was", 2, 71),
        Origin("west", "one", 1, 72),
    ]
    # What the relay adds is none of the record's own.
    assert own(came) == [(), several, ()]
    assert came.relayed_ms.tolist() == [1_767_225_600_000, 0, LAST_MS]


@pytest.mark.parametrize("said", [None, b"", b"1 7 0", b"x 7 0 one", b"1 7 0 one two", b"\xff 1 2 one", b"9" * 30])
def test_what_does_not_say_where_it_is_from_counts_where_it_stands(said: bytes | None) -> None:
    headers = ((RELAYED_HEADER, said),) if said != b"9" * 30 else ()
    came = arrived("west.copies", Sent(offset=5, headers=headers), Sent(headers=((RELAYED_HEADER, b"1 7 0 one"),)))
    assert came.origin(0) == Origin("west", "west.copies", 3, 5)
    assert came.origin(1) == Origin("west", "one", 1, 7)
    assert came.relayed_ms.tolist() == [-1, 0]


@given(st.lists(records, max_size=8))
def test_records_without_relay_keep_all_headers(sent: list[Sent]) -> None:
    assert own(arrived("one", *sent)) == [one.headers for one in sent]


@given(st.lists(records, max_size=8), st.data())
def test_copies_keep_all_headers_but_the_relay_s(sent: list[Sent], data: st.DataObject) -> None:
    copies = []
    for offset, one in enumerate(sent):
        at = data.draw(st.integers(0, len(one.headers)))
        relayed = (RELAYED_HEADER, b"1 %d 5 one" % offset)
        copies.append(Sent(one.value, one.key, (*one.headers[:at], relayed, *one.headers[at:]), offset=9))
    came = arrived("west.copies", *copies)
    assert own(came) == [one.headers for one in sent]
    assert came.offset.tolist() == [*range(len(sent))]
    assert came.relayed_ms.tolist() == [5000] * len(sent)


FORGED = (
    ("surecount.pathway", b"east"),
    ("surecount.topic", b"one"),
    ("surecount.partition", b"1"),
    ("surecount.offset", b"7"),
    ("surecount.replayed", b"0@0"),
)


def identified(came: Arrived) -> tuple[list[bytes], list[bool]]:
    """The ids of records without id fields, and which are replayed."""
    of_bucket = accepted(came)[0]
    return of_bucket.column("id").tolist(), of_bucket.column("replayed").tolist()


@pytest.mark.parametrize("source", ["one", "west.copies"])
def test_headers_of_a_raw_record_or_of_a_copy_make_it_no_other_record(source: str) -> None:
    ids, replayed = identified(arrived(source, Sent(offset=5, headers=FORGED), Sent(offset=6, headers=FORGED)))
    assert len(set(ids)) == 2
    assert replayed == [False, False]


def again(*sent: Sent) -> Arrived:
    return arrive_again(found(*sent), np.full(len(sent), 3), "shop.replay")


def test_a_replayed_record_is_the_one_that_it_was() -> None:
    kept = (("own", b"\xff"), ("producer.surecount.topic", b"9"), ("own", None), ("own", b"\xff"))
    timestamps = (b"1767225600000", b"-1", b"0", b"1769860799123000000", b"9" * 19)
    came = again(
        *(
            Sent(offset=n, kafka_ms=5, headers=(*kept, *FORGED, ("surecount.timestamp", ms)))
            for n, ms in enumerate(timestamps)
        )
    )
    assert [came.origin(row) for row in range(5)] == [Origin("east", "one", 1, 7)] * 5
    assert came.kafka_ms.tolist() == [1_767_225_600_000, -1, 0, 1_769_860_799_123_000_000, 5]
    assert own(came) == [(*kept, FORGED[-1])] * 5
    assert came.relayed_ms.tolist() == [-1] * 5
    ids, replayed = identified(came)
    direct, _ = identified(arrive(found(Sent(offset=7)), np.zeros(1, np.int64), np.ones(1, np.int64), INLETS))
    assert (set(ids), replayed) == ({*direct}, [True] * 5)


def test_a_replayed_record_does_not_say_what_its_clean_copy_says_anew() -> None:
    came = again(Sent(headers=(*FORGED, ("surecount.version", b"0"), ("surecount.watermark", b"9"), ("a", b"1"))))
    assert own(came) == [(FORGED[-1], ("a", b"1"))]


@pytest.mark.parametrize("name", [name for name, _ in FORGED[:4]])
@pytest.mark.parametrize("said", [None, b"", b"x", b"9" * 30])
def test_a_replayed_record_that_does_not_say_where_it_was_counts_where_it_stands(name: str, said: bytes | None) -> None:
    headers = tuple((n, said if n == name else value) for n, value in FORGED if n != name or said is not None)
    came = again(Sent(offset=5, kafka_ms=9, headers=(*headers, ("surecount.timestamp", b"soon"))))
    stands = name in ("surecount.pathway", "surecount.topic") and said not in (None, b"")
    assert (came.origin(0) == Origin("replay", "shop.replay", 3, 5)) != stands
    assert came.kafka_ms.tolist() == [9]


def sent_of(found: Records) -> list[Sent]:
    """Records of a bucket."""
    columns = (found.batch.column(name).to_pylist() for name in ("value", "key", "headers", "kafka_ms", "offset"))
    return [Sent(value, key, tuple(headers), *rest) for value, key, headers, *rest in zip(*columns, strict=True)]


@given(st.lists(records, min_size=1, max_size=20), st.integers(1, 5))
def test_each_accepted_record_travels_in_its_bucket_in_order_of_arrival(sent: list[Sent], buckets: int) -> None:
    came = arrived("two", *sent)
    by_number = accepted(came, "id", buckets=buckets)
    # Pieces of one bucket may come joined.
    travelled = {bucket: [*Records.decode(of.encode() * 2)] for bucket, of in by_number.items()}
    rows = []
    for bucket, (once, twice) in travelled.items():
        once.batch.validate(full=True)
        assert once.batch.equals(twice.batch) and once.places == twice.places == came.places
        of_bucket = (once.column("time") - 1000).tolist()
        assert of_bucket == sorted(of_bucket)
        assert sent_of(once) == [sent[row] for row in of_bucket]
        assert once.ids().tobytes() == by_number[bucket].ids().tobytes() == b"".join(once.column("id"))
        assert set(once.column("partition").tolist()) == {3}
        rows += of_bucket
    assert sorted(rows) == [*range(len(sent))]


def test_a_part_of_a_batch_travels_without_the_rest() -> None:
    big = Sent(b"v" * 1000, b"k" * 1000, (("n" * 1000, b"h" * 1000),))
    pieces = {bucket: len(of.encode()) for bucket, of in accepted(arrived("one", *[big] * 64), "id", buckets=8).items()}
    assert len(pieces) == 8 and max(pieces.values()) < 64 * 4000 / 3


_data = st.none() | st.binary(max_size=60)
larger = st.builds(
    Sent,
    value=_data,
    key=_data,
    headers=st.lists(st.tuples(st.sampled_from(["", "name"]), _data), max_size=3).map(tuple),
)


def size_of(sent: Sequence[Sent]) -> int:
    of_headers = sum(10 + len(name) + len(value or b"") for one in sent for name, value in one.headers)
    return of_headers + sum(len(one.key or b"") + len(one.value or b"") for one in sent)


@given(st.lists(larger, min_size=1, max_size=20), st.integers(1, 6), st.integers(1, 300), st.integers(0, 3))
def test_records_are_cut_into_parts_that_are_small(sent: list[Sent], most: int, size: int, skipped: int) -> None:
    whole = accepted(arrived("one", *[Sent(b"not of these")] * skipped, *sent))[0]
    part_of = Records(whole.batch.slice(skipped), whole.places)
    parts = [sent_of(part) for part in part_of.cut(most, size)]
    assert [one for part in parts for one in part] == sent_of(part_of)
    for number, part in enumerate(parts):
        assert 1 <= len(part) <= most
        assert size_of(part) <= size or len(part) == 1
        # As few as can be.
        following = parts[number + 1][:1] if number + 1 < len(parts) else []
        assert not following or len(part) == most or size_of([*part, *following]) > size


@given(st.lists(records, max_size=8), st.integers(0, 8), st.integers(0, 8))
def test_headers_come_apart(sent: list[Sent], first: int, number: int) -> None:
    counts, names, values = parts_of(arrived("one", *sent).headers.slice(first, number))
    chosen = sent[first : first + number]
    assert counts.tolist() == [len(one.headers) for one in chosen]
    headers = [header for one in chosen for header in one.headers]
    assert [*zip(names.to_pylist(), values.to_pylist(), strict=True)] == [(name.encode(), v) for name, v in headers]


def test_records_of_each_place_keep_their_order() -> None:
    came = arrived(
        "west.copies",
        *(Sent(headers=((RELAYED_HEADER, b"0 %d 0 %s" % (n, topic)),)) for n, topic in enumerate([b"a", b"b", b"a"])),
    )
    assert [(place, of.column("offset").tolist()) for place, of in accepted(came)[0].by_place()] == [
        (("west", "a"), [0, 2]),
        (("west", "b"), [1]),
    ]


def test_what_no_sink_can_write_is_refused() -> None:
    headers = (("a", b"x" * (21 << 20)), ("b", b"x" * (21 << 20)))
    fits, not_ = (Sent(b"x" * size, headers=headers) for size in (20 << 20, 22 << 20))
    assert accepted(arrived("one", fits))
    with pytest.raises(ValueError, match=r"with key and headers 671\d+ bytes, over 66060288"):
        accepted(arrived("one", Sent(b"{}"), not_))


def test_what_a_relay_could_not_copy_whole_is_refused_also_where_nothing_else_is_accepted() -> None:
    came = arrived("west.copies", Sent(None, headers=((RELAYED_HEADER, b"1 7 0 one"), ("surecount.size", b"70000000"))))
    with pytest.raises(ValueError, match="a relay copied it without its value"):
        [*by_bucket(came, Columns(np.array([], np.int64), np.array([], np.int64), {}), (), 1)]
