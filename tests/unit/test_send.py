"""How an input becomes lines, chunks and positions, and what is refused before Kafka is asked."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surecount import config, lines
from surecount.errors import SurecountError
from surecount.lines import Chunk, Head, Input, Position, chunks, key_of, opened, value_of
from surecount.send import Options, Summary, default_id, send, write_rest
from tests.examples import examples

LARGEST = 1_000
# Line ends, blanks and bytes that are no UTF-8, often.
PIECES = [b"\n", b"\r\n", b"\r", b" ", b"\n\n", b"a", b'{"k":1}', b"\xff", b"\0"]
CONTENT = st.lists(st.sampled_from(PIECES)).map(b"".join)


@pytest.fixture
def pipe() -> Iterator[tuple[Input, BinaryIO]]:
    """An input that waits, and what feeds it."""
    read, write = os.pipe()
    with open(read, "rb", buffering=0) as reader, open(write, "wb", buffering=0) as writer:  # noqa: PTH123
        yield Input("pipe", reader.fileno(), None), writer


def records_of(content: bytes) -> list[bytes]:
    """What is to be sent, by another way than the code's: no bytes.split, no removesuffix."""
    found, line = [], bytearray()
    for byte in content:
        line.append(byte)
        if byte == 10:
            found.append(bytes(line[: -2 if line[-2:] == b"\r\n" else -1]))
            line.clear()
    found.append(bytes(line))
    return [value for value in found if set(value) - set(b" \t\r\n")]


def cut(source: Input, start: Position, **options: Any) -> list[Chunk]:
    settings = {"key": None, "largest": LARGEST, "stopped": lambda: False, **options}
    return list(chunks(source.lines(settings["largest"] + 1), start, **settings))


def values(found: list[Chunk]) -> list[bytes]:
    return [value for chunk in found for _, value in chunk.records]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("send")


@settings(max_examples=examples(300), deadline=None)
@given(content=CONTENT, block=st.integers(1, 7), size=st.integers(1, 4))
def test_from_every_position_the_same_lines_follow(folder: Path, content: bytes, block: int, size: int) -> None:
    file = folder / "input"
    file.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_BLOCK", block)
        patch.setattr(lines, "_CHUNK_LINES", size)
        with opened(file) as source:
            found = cut(source, Position())
        assert values(found) == records_of(content)
        assert b"".join(line for chunk in found for line in chunk.lines) == content
        assert all(len(chunk.lines) <= size for chunk in found)
        for number, chunk in enumerate(found, start=1):
            committed = Position.parse(chunk.end.byte, chunk.end.metadata)
            with opened(file) as source:
                start = source.pass_over(committed, 0)
                assert start == chunk.end
                assert values(cut(source, start)) == values(found[number:])
            rest = folder / "rest"
            rest.write_bytes(content[chunk.start.byte :])
            with opened(rest) as source:
                start = source.pass_over(committed, chunk.start.byte)
                assert (start.byte, start.line) == (chunk.end.byte, chunk.end.line)
                assert values(cut(source, start)) == values(found[number:])


def test_chunks_are_bounded_by_bytes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_CHUNK_BYTES", 10)
    file = tmp_path / "input"
    file.write_bytes(b"12345\n" * 5)
    with opened(file) as source:
        found = cut(source, Position())
    assert [chunk.size for chunk in found] == [12, 12, 6]
    assert [(chunk.end.byte, chunk.end.line) for chunk in found] == [(12, 2), (24, 4), (30, 5)]


def waiting(source: Input, stop: Callable[[], bool]) -> Iterator[Chunk]:
    return chunks(source.lines(LARGEST + 1), Position(), key=None, largest=LARGEST, stopped=stop)


def test_what_came_is_not_kept_waiting_for_more(pipe: tuple[Input, BinaryIO]) -> None:
    source, feed = pipe
    found = waiting(source, lambda: False)
    feed.write(b"one\ntwo\nhalf")
    watchdog = threading.Timer(30, feed.close)  # so that a failure does not wait without end
    watchdog.start()
    assert values([next(found)]) == [b"one", b"two"]
    watchdog.cancel()
    assert not feed.closed
    feed.write(b" done\n")
    feed.close()
    assert values(list(found)) == [b"half done"]


def test_a_stop_hands_out_what_was_read(pipe: tuple[Input, BinaryIO], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_CHUNK_S", 3_600.0)
    source, feed = pipe
    feed.write(b"one\ntwo\nhalf")
    looks = iter([False] * 4)
    assert values(list(waiting(source, lambda: next(looks, True)))) == [b"one", b"two"]
    assert not feed.closed


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize("filler", [b"x", b" "])
def test_a_line_that_is_too_large(tmp_path: Path, ending: bytes, filler: bytes) -> None:
    file = tmp_path / "input"
    whole, large = b"x" * LARGEST, filler * (LARGEST + 1)
    file.write_bytes(b"first\n\n" + whole + b"\r\n" + large + ending + b"last\n")
    with opened(file) as source:
        lines = source.lines(LARGEST + 1)
        (found,) = chunks(lines, Position(), key=None, largest=LARGEST, stopped=lambda: False)
        rest = [found.too_large, *lines]
    assert values([found]) == [b"first", whole]
    assert found.end.line == 3
    assert b"".join(piece for piece in rest if piece) == file.read_bytes()[found.end.byte :]


def test_a_line_that_does_not_end_is_not_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_BLOCK", 100)
    file = tmp_path / "input"
    file.write_bytes(b"x" * 100_000)
    with opened(file) as source:
        pieces = list(source.lines(LARGEST))
    assert max(len(piece) for piece in pieces if piece) <= LARGEST + 100
    assert b"".join(piece for piece in pieces if piece) == file.read_bytes()


def test_a_key_counts_for_the_size_of_its_record(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(b'{"k":"' + b"x" * 600 + b'"}\n')
    with opened(file) as source:
        (found,) = cut(source, Position(), key=("k",))
    assert found.too_large and not found.records
    with opened(file) as source:
        assert len(values(cut(source, Position()))) == 1


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b'{"a":{"b":"x"}}', b"x"),
        ('{"a":{"b":"ä€\\u00e4"}}'.encode(), "ä€ä".encode()),
        (b'{"a":{"b":""}}', b""),
        (b'{"a":{"b":12}}', b"12"),
        (b'{"a":{"b":-0}}', b"-0"),
        (b'{"a":{"b":1.50}}', b"1.50"),
        (b'{"a":{"b":1E3}}', b"1E3"),
        (b'{"a":{"b":123456789012345678901234567890}}', b"123456789012345678901234567890"),
        (b'{"a":{"b":1,"b":2}}', b"2"),
        (b' {"a":{"b":7}} ', b"7"),
        (b'{"a":{"b":null}}', None),
        (b'{"a":{"b":true}}', None),
        (b'{"a":{"b":NaN}}', None),
        (b'{"a":{"b":{}}}', None),
        (b'{"a":{"b":[1]}}', None),
        (b'{"a":{}}', None),
        (b'{"a":"b"}', None),
        (b'["a","b"]', None),
        (b'{"a":{"b":"\\ud800"}}', None),
        (b'{"a":{"b":"\xff"}}', None),
        (b'{"a":{"b":1}', None),
        (b'{"a":' * 100_000, None),
        (b"\xef\xbb\xbf{}", None),
        (b"nonsense", None),
    ],
)
def test_keys(value: bytes, key: bytes | None) -> None:
    assert key_of(value, ("a", "b")) == key


def test_records_without_key_are_sent_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(b'{"k":"a"}\n\nno json\n{"k":1}\n')
    with opened(file) as source:
        (found,) = cut(source, Position(), key=("k",))
    assert [key for key, _ in found.records] == [b"a", None, b"1"]
    assert (found.without_key, found.blank) == (1, 1)
    with opened(file) as source:
        (found,) = cut(source, Position())
    assert found.without_key == 0


def test_line_ends() -> None:
    assert [value_of(line) for line in (b"a\n", b"a\r\n", b"a\r\r\n", b"a\r", b"a", b"\n", b"a\n\n")] == [
        b"a", b"a", b"a\r", b"a\r", b"a", b"", b"a\n",
    ]  # fmt: skip


def sent(content: bytes) -> Position:
    return Position().after(content.splitlines(keepends=True))


@pytest.fixture(params=["file", "stream"])
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[bytes], Input]]:
    """Makes an input of some content; a stream is read where a file is sought."""
    with ExitStack() as files:

        def make(content: bytes) -> Input:
            path = tmp_path / "whole"
            path.write_bytes(content)
            file = files.enter_context(path.open("rb"))
            return Input("whole", file.fileno(), len(content) if request.param == "file" else None)

        yield make


def test_another_input_is_refused(whole: Callable[[bytes], Input]) -> None:
    known = sent(b"one\ntwo\n")
    with pytest.raises(SurecountError, match="its first 8 bytes are not those that were sent"):
        whole(b"one\nTwo\nthree\n").pass_over(Position.parse(known.byte, known.metadata), 0)


def test_an_input_that_is_shorter_is_refused(whole: Callable[[bytes], Input]) -> None:
    with pytest.raises(SurecountError, match="ends before byte 8"):
        whole(b"one\ntwo").pass_over(sent(b"one\ntwo\n"), 0)


def test_only_the_head_is_compared_and_it_is_long(whole: Callable[[bytes], Input]) -> None:
    known = sent(b"0123456\n" * 9_000)
    assert known.head.size == lines.HEAD_BYTES == 65_536
    source = whole(b"0123456\n" * 8_500 + b"7654321\n" * 501)
    assert source.pass_over(known, 0).byte == 72_000
    assert [value for value in source.lines(LARGEST) if value] == [b"7654321\n"]


def test_a_last_line_that_has_grown_is_refused(whole: Callable[[bytes], Input]) -> None:
    with pytest.raises(SurecountError, match=r"line 2 was sent when it ended at byte 7, and has grown"):
        whole(b"one\ntwo!\n").pass_over(sent(b"one\ntwo"), 0)


@pytest.mark.parametrize("more", [b"", b"\n", b"\r\n", b"\nthree\n"])
def test_a_last_line_may_get_its_end(whole: Callable[[bytes], Input], more: bytes) -> None:
    source = whole(b"one\ntwo" + more)
    assert values(cut(source, source.pass_over(sent(b"one\ntwo"), 0))) == ([b"three"] if b"three" in more else [])


def test_a_rest_that_would_leave_a_gap_is_refused(whole: Callable[[bytes], Input]) -> None:
    with pytest.raises(SurecountError, match="only 4 bytes were sent"):
        whole(b"three\n").pass_over(sent(b"one\n"), 8)


def test_the_head_of_a_rest_stays_that_of_the_whole(whole: Callable[[bytes], Input]) -> None:
    known = Position.parse(4, sent(b"one\n").metadata)
    start = whole(b"two\n").pass_over(known, 4)
    assert start.after([b"two\n"]).head == known.head
    assert known.head == Head(4, Head.of(b"one\n").digest)


def test_positions_of_others_are_refused() -> None:
    nothing = Head.of(b"").digest
    # A head of nothing is that of any input, and one of a terabyte would be read into memory.
    forged = [
        {"line": line, "head": head, "blake2b": nothing}
        for line, head in ((1, 0), (-1, 7), (1, 8), (8, 7), (1, 1 << 40))
    ]
    for metadata in ("", "[]", "{}", '{"line": 1}', "flink", *map(json.dumps, forged)):
        with pytest.raises(SurecountError, match="was not written by `surecount send`"):
            Position.parse(7, metadata)


def test_a_rest_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "input.rest"
    assert write_rest(path, [b"one\n", None, b"", b"two"]) == path
    assert write_rest(path, [b"three"]) == tmp_path / "input.rest.2"
    assert write_rest(path, []) == tmp_path / "input.rest.3"
    assert path.read_bytes() == b"one\ntwo"
    with pytest.raises(SurecountError, match="can't be written to"):
        write_rest(tmp_path / "missing" / "input.rest", [])


def test_ids_are_those_of_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_id(Path("a b.jsonl")).startswith("a_b.jsonl-")
    assert default_id(Path("a")) == default_id(tmp_path / "a") == default_id(Path("x/../a"))
    assert default_id(Path("a")) != default_id(tmp_path / "x" / "a")
    assert default_id(None) != default_id(None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(Path("f"), resume=True, again=True), "exclude each other"),
        (Options(None, resume=True), "needs --id"),
        (Options(None, id="a/b"), "'a/b' is no ID"),
        (Options(None, id=""), "'' is no ID"),
        (Options(Path("f"), starts_at=5, resume=True), "--starts-at needs --resume and --id"),
        (Options(Path("f"), starts_at=5, id="x"), "--starts-at needs --resume and --id"),
        (Options(Path("f"), give_up_ms=999), "give 1 s to 10 min"),
        (Options(Path("f"), give_up_ms=600_001), "give 1 s to 10 min"),
        (Options(Path("f"), key="a..b"), "'a..b' is no field"),
        (Options(Path("f"), pathway="nope"), "there are: main"),
        (Options(Path("f"), topic="nope"), "its topics are: shop.orders"),
    ],
)
def test_wrong_use(options: Options, said: str) -> None:
    data = {
        "name": "shop",
        "source": {"topics": ["shop.orders"], "event_time": {"field": "ts"}},
        "aggregate": [{"name": "a", "key": ["customer"], "window": "1 min"}],
    }
    with pytest.raises(SurecountError) as error:
        send(config.parse(data, "test"), options)
    assert said in str(error.value)
    assert error.value.exit_code == 2


def test_inputs_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(SurecountError, match="No such file"), opened(tmp_path / "missing"):
        pass
    with pytest.raises(SurecountError, match="is no regular file"), opened(tmp_path):
        pass


def test_a_summary_reads_well() -> None:
    summary = Summary("shop.orders", "orders", 10, None, records=3, bytes=10, blank=1, elapsed_s=0.5)
    assert str(summary) == "3 records in 0.5 s to shop.orders; 1 blank lines skipped"
    summary.without_key, summary.stopped_by = 2, 15
    assert str(summary).splitlines() == [
        "3 records in 0.5 s to shop.orders; 1 blank lines skipped; 2 records without key",
        "stopped at byte 10 of the input; --id orders --resume goes on there",
    ]
    assert "nothing left to send" in str(Summary("shop.orders", "orders", 10, 10))
    assert summary.to_dict() == {
        "records": 3, "bytes": 10, "blank": 1, "without_key": 2,
        "topic": "shop.orders", "id": "orders", "position": 10, "resumed_from": None,
    }  # fmt: skip
