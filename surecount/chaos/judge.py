"""The judge of a chaos run. It is pure: it is given what was sent and what was read, and says what must not be.

``live`` are the records that a read_committed reader was given while faults happened, in that order; ``final`` are
all committed records of the output topics after the end. A result and the corrections of its aggregate, key and start
are a window; a window is full where it is within the span of its aggregate's answer.

What stands there in the end:

1. Each key's full window that ends by ``closed_ms`` holds exactly the answer's count (``lost``, ``surplus``) and, where
   the count is right, its sums (``wrong_sum``). A full window that ends later may be missing or incomplete, not more.
   An answer has ``Answer.keys`` keys, those that are in most of its full windows: another one is ``surplus``, and
   where there are too few, each that a closed window lacks is ``lost``. Without known amounts none are judged.
2. A window has one result at most (``doubled``).
3. Rejects are as many as expected for each reason (``rejected``).

What was seen live:

4. A live record is final: the same at the same offset (``retracted``), so it was committed, and stayed so.
5. The offsets of a partition rise: none comes twice, or after a later one (``seen_twice``).
6. A final record before the last one that was seen of its partition was seen too: none appears behind a reader that
   is past it (``unseen``).
7. Within a partition, the results of a key come in the order of their windows' starts (``reordered``). This is judged
   on the final records, which have those of the reader and more.
8. A result is not seen before its window's end and the out-of-orderness after it have passed (``early``).

And of both:

9. Results and corrections are as docs/records.md has them, with a window and sums of one of the answers; a record that
   is not counts nowhere (``unreadable``). A live record is read anew only where it is not final.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TypeGuard

from surecount.audit import Amount
from surecount.chaos.seen import Expected, Output, Place, Record, Verdict, Violation
from surecount.chaos.windows import Number, UnreadableError, Window, WindowReader, rfc3339
from surecount.generator.answers import Answer

NAMED = 10
"""How many violations of a kind are named; all are counted."""

_QUOTED = 400

_Stream = tuple[Output, Place]
_Read = tuple[Record, Window | None]
_Part = tuple[Record, Window]


def judge(expected: Expected, live: Sequence[Record], final: Sequence[Record]) -> Verdict:
    """Hold what was read against what was sent; records are in any order of partitions, ``live`` as it came.

    ValueError where two answers are about the same aggregate and window.
    """
    found = _Violations()
    reader = _Reader(expected.answers, found)
    ordered = sorted(final, key=lambda record: (record.output, record.place, record.offset))
    read: list[_Read] = [(record, reader.read(record)) for record in ordered]
    windows = list(filter(_is_part, read))
    _judge_windows(expected, windows, found)
    _judge_rejects(expected.rejected, ordered, found)
    _judge_live(expected, live, read, reader, found)
    _judge_order(expected.answers, windows, found)
    outputs = Counter(record.output for record in final)
    return Verdict(found.named, found.count, outputs["results"], outputs["corrections"], outputs["rejects"])


def _is_part(one: _Read) -> TypeGuard[_Part]:
    return one[1] is not None


class _Violations:
    """Violations as they are found."""

    def __init__(self) -> None:
        self.count = 0
        self._named: dict[str, list[Violation]] = {}

    @property
    def named(self) -> tuple[Violation, ...]:
        return tuple(violation for named in self._named.values() for violation in named)

    def add(self, kind: str, detail: str, number: int = 1) -> None:
        self.count += number
        named = self._named.setdefault(kind, [])
        if len(named) < NAMED:
            named.append(Violation(kind, detail))


def _judge_windows(expected: Expected, windows: Iterable[_Part], found: _Violations) -> None:
    """Rules 1 and 2."""
    parts: dict[int, dict[int, dict[bytes, list[_Part]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for part in windows:
        record, window = part
        before = parts[window.answer][window.start][window.key]
        first = next((other for other, _ in before if other.output == "results"), None)
        if record.output == "results" and first is not None:
            name = _name(expected.answers[window.answer], window.key, window.start)
            found.add("doubled", f"{name}: expected one result, found {_at(first)} and {_at(record)}")
        before.append(part)
    for index, answer in enumerate(expected.answers):
        if not answer.unknown:
            _judge_amounts(answer, expected.closed_ms, parts[index], found)


def _judge_amounts(
    answer: Answer, closed_ms: int, windows: Mapping[int, Mapping[bytes, list[_Part]]], found: _Violations
) -> None:
    starts = range(answer.start_ms, answer.end_ms, answer.window_ms)
    often = Counter(key for start in starts for key in windows.get(start, ()))
    keys = sorted(often, key=lambda key: (-often[key], key))[: answer.keys]
    whole = Amount(answer.count, answer.sums)
    for start in starts:
        closed = start + answer.window_ms <= closed_ms
        there = windows.get(start, {})
        for key in keys:
            parts = there.get(key, [])
            if kind := _fault(answer, parts, closed):
                text = " + ".join(f"{_amount(answer, part)} in {_at(record)}" for record, part in parts) or "nothing"
                found.add(kind, f"{_name(answer, key, start)}: expected {whole}, found {text}")
        for key in sorted(there.keys() - set(keys)):
            where = ", ".join(_at(record) for record, _ in there[key])
            name = _name(answer, key, start)
            found.add("surplus", f"{name}: expected only {answer.keys:,} other keys, found this one in {where}")
        if closed and len(keys) < answer.keys:
            name = f"{answer.aggregate} {rfc3339(start)}"
            detail = f"{name}: expected {answer.keys:,} keys, found {len(keys):,} in all windows together"
            found.add("lost", detail, answer.keys - len(keys))


def _fault(answer: Answer, parts: Sequence[_Part], closed: bool) -> str | None:
    """The kind of violation that a key's window is."""
    records = sum(part.records for _, part in parts)
    if records < answer.count:
        return "lost" if closed else None
    if records > answer.count:
        return "surplus"
    for index, total in enumerate(answer.sums.values()):
        if not _adds_up([part.sums[index] for _, part in parts], total):
            return "wrong_sum"
    return None


def _adds_up(values: Sequence[Number], total: Number) -> bool:
    """Without rounding."""
    return values[0] == total if len(values) == 1 else sum(map(Fraction, values), Fraction()) == Fraction(total)


def _judge_rejects(expected: Mapping[str, int], records: Iterable[Record], found: _Violations) -> None:
    """Rule 3."""
    first: dict[str, Record] = {}
    reasons: Counter[str] = Counter()
    for record in records:
        if record.output == "rejects":
            reasons[record.reason] += 1
            first.setdefault(record.reason, record)
    for reason in sorted(expected.keys() | reasons.keys()):
        if reasons[reason] != expected.get(reason, 0):
            where = f", first {_at(first[reason])}" if reason in first else ""
            numbers = f"expected {expected.get(reason, 0):,}, found {reasons[reason]:,}{where}"
            found.add("rejected", f"rejects for {reason or 'no reason'}: {numbers}")


def _judge_live(
    expected: Expected, live: Iterable[Record], final: Iterable[_Read], reader: _Reader, found: _Violations
) -> None:
    """Rules 4, 5, 6 and 8."""
    committed: dict[_Stream, dict[int, _Read]] = defaultdict(dict)
    for one in final:
        committed[one[0].output, one[0].place][one[0].offset] = one
    seen: dict[_Stream, set[int]] = defaultdict(set)
    last: dict[_Stream, int] = {}
    for record in live:
        stream, offset = (record.output, record.place), record.offset
        if offset <= last.get(stream, -1):
            what = "it once more" if offset in seen[stream] else "it behind that"
            found.add("seen_twice", f"{_at(record)}: expected an offset after {last[stream]}, found {what}")
        seen[stream].add(offset)
        last[stream] = max(offset, last.get(stream, -1))
        there, window = committed[stream].get(offset, (None, None))
        if there is None or (there.value, there.reason) != (record.value, record.reason):
            now = "nothing" if there is None else _quoted(there)
            found.add("retracted", f"{_at(record)}: expected {_quoted(record)}, as it was seen, found {now}")
            window = reader.read(record)
        if window is not None and record.output == "results":
            due = window.end + expected.out_of_orderness_ms
            if record.at_ms < due:
                name = _name(expected.answers[window.answer], window.key, window.start)
                when = f"expected not before {rfc3339(due)}, found {due - record.at_ms:,} ms before"
                found.add("early", f"{name} in {_at(record)}: {when}")
    for stream, offset in last.items():
        for behind, (record, _) in committed[stream].items():
            if behind < offset and behind not in seen[stream]:
                found.add("unseen", f"{_at(record)}: expected to be seen before offset {offset}, found in the end only")


def _judge_order(answers: Sequence[Answer], windows: Iterable[_Part], found: _Violations) -> None:
    """Rule 7."""
    latest: dict[tuple[Place, int, bytes], int] = {}
    for record, window in windows:
        if record.output == "results":
            one = (record.place, window.answer, window.key)
            before = latest.setdefault(one, window.start)
            latest[one] = max(before, window.start)
            if window.start < before:
                name = _name(answers[window.answer], window.key, window.start)
                found.add("reordered", f"{name}: expected before {rfc3339(before)}, found after it in {_at(record)}")


class _Reader:
    """Rule 9."""

    def __init__(self, answers: Sequence[Answer], found: _Violations) -> None:
        self._windows = WindowReader(answers)
        self._found = found

    def read(self, record: Record) -> Window | None:
        """None for what is unreadable, and for rejects, whose values may be anything."""
        if record.output == "rejects":
            return None
        try:
            return self._windows.read(record.output, record.value)
        except UnreadableError as error:
            self._found.add(
                "unreadable", f"{_at(record)}: expected what is documented, found {_quoted(record)}: {error}"
            )
            return None


def _amount(answer: Answer, part: Window) -> Amount:
    return Amount(part.records, dict(zip(answer.sums, part.sums, strict=True)))


def _name(answer: Answer, key: bytes, start: int) -> str:
    return f"{answer.aggregate} {key.decode()} {rfc3339(start)}"


def _at(record: Record) -> str:
    topic, partition = record.place
    return f"{record.output} {topic}-{partition}@{record.offset}"


def _quoted(record: Record) -> str:
    return f"{record.value[:_QUOTED]!r}" + (f" ({record.reason})" if record.reason else "")
