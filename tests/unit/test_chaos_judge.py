"""The judge of chaos lets right runs pass, and none in which one thing is not as it has to be."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from surecount.chaos.judge import NAMED, judge
from surecount.chaos.seen import Expected, Output, Record
from surecount.generator.answers import Answer
from tests.examples import examples
from udfs.times import from_rfc3339, to_rfc3339

Mutation = Callable[["Run"], None]
T0 = 1_800_000_000_000
LAG = 700
SUMS: dict[str, int | Decimal | float] = {"n": 21, "huge": 10**30, "paid.tax": Decimal("10.50"), "heat": 5.25}
ANSWERS = {
    "per_customer": Answer("per_customer", 3, 1_000, 4, T0, T0 + 4_000, 6, SUMS),
    "per_shop": Answer("per_shop", 2, 2_000, 4, T0, T0 + 8_000, 4, {"n": -7}),
    "bare": Answer("bare", 1, 4_000, 4, T0, T0 + 16_000, 9, {}),
    "odd": Answer("odd", 2, 1_500, 0, T0, T0, 0, {}, "windows of 1500 ms do not all hold the same"),
}
OFF_GRID = {"start": to_rfc3339(T0 + 500), "end": to_rfc3339(T0 + 1_500)}
# The last window of "bare" is still open in the end.
EXPECTED = Expected(tuple(ANSWERS.values()), T0 + 12_000, {"not_json": 2, "null_field": 1}, LAG)


@dataclass
class Run:
    """What is judged, and what decides a mutation's choices."""

    order: random.Random
    live: list[Record]
    final: list[Record]

    def found(self) -> dict[str, str]:
        return {one.kind: one.detail for one in judge(EXPECTED, self.live, self.final).violations}

    def any(self, output: Output, field: str | None = None) -> Record:
        """A record that is judged by amount, with a sum of ``field`` where that is given; or a reject."""
        return self.order.choice(
            [r for r in self.final if r.output == output and (output == "rejects" or is_judged(body(r), field))]
        )

    def rewrite(self, old: Record, new: Record | None) -> None:
        """As if the job had written ``new`` instead of ``old``, or nothing."""
        for records in (self.live, self.final):
            records[:] = [
                replace(new, at_ms=r.at_ms) if new and is_at(r, old) else r for r in records if new or not is_at(r, old)
            ]

    def after(self, record: Record) -> Record:
        """The record once more, at the end of its partition."""
        return replace(record, offset=1 + max(one.offset for one in self.final if one.place == record.place))


def is_at(one: Record, other: Record) -> bool:
    return (one.place, one.offset) == (other.place, other.offset)


def body(record: Record) -> Any:
    return json.loads(record.value)


def is_judged(value: dict[str, Any], field: str | None) -> bool:
    answer, end = ANSWERS[value["aggregate"]], from_rfc3339(value["end"])
    return answer.start_ms < end <= min(answer.end_ms, EXPECTED.closed_ms) and field in (None, *answer.sums)


def encoded(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def window(answer: Answer, key: int, start: int, count: int, sums: dict[str, Any]) -> dict[str, Any]:
    texts = {field: str(value) if isinstance(value, Decimal) else value for field, value in sums.items()}
    key_fields = {"who": ["ada", "ç\n😀", "1"][key], "shard": -key}
    head = {"aggregate": answer.aggregate, "key": key_fields, "start": to_rfc3339(start)}
    return head | {"end": to_rfc3339(start + answer.window_ms), "count": count, "sum": texts}


def part_of(total: Any, order: random.Random) -> Any:
    """Some of a sum, of its type, so that it and the rest are exact."""
    eighths = order.randint(-40, 40)
    if isinstance(total, Decimal):
        return Decimal(eighths).scaleb(-2)
    return eighths / 8 if isinstance(total, float) else eighths


def right(seed: int) -> Run:
    """All keys' windows in the order of their ends, some in two parts, and a reader that lags the end."""
    order = random.Random(seed)
    run, offsets = Run(order, [], []), {}

    def write(output: Output, at_ms: int, value: bytes, reason: str = "") -> None:
        place = (f"shop.{output}", order.randrange(3))
        # The marker of a transaction's end takes an offset too.
        offsets[place] = offsets.get(place, -1) + order.choice([1, 1, 2])
        run.live.append(Record(output, place, offsets[place], at_ms, value, reason))

    windows = [
        (start + answer.window_ms, answer, key, start)
        for answer in ANSWERS.values()
        # One before the full windows, and one after them.
        for start in range(T0 - answer.window_ms, T0 + 5 * answer.window_ms, answer.window_ms)
        for key in range(answer.keys)
    ]
    for end, answer, key, start in sorted(windows, key=lambda one: one[0]):
        count, sums, closed = answer.count, answer.sums, end <= EXPECTED.closed_ms
        if not answer.start_ms <= start < answer.end_ms:
            count = 1
        elif order.random() < 0.5:
            late = order.randint(1, count)
            late_sums = {f: part_of(total, order) for f, total in sums.items()} if late < count else sums
            count, sums = count - late, {field: sums[field] - late_sums[field] for field in sums}
            if closed or order.random() < 0.5:
                value = window(answer, key, start, late, late_sums) | {"late_by_ms": order.randint(0, 5)}
                write("corrections", end, encoded(value))
        if count and (closed or order.random() < 0.5):
            write("results", end + LAG + order.randint(0, 50), encoded(window(answer, key, start, count, sums)))
    for reason in ("not_json", "null_field", "not_json"):
        write("rejects", T0, order.randbytes(3), reason)
    run.final = [replace(record, at_ms=0) for record in run.live]
    until = {place: order.choice([last, last * 2 // 3]) for place, last in offsets.items()}
    run.live = [record for record in run.live if record.offset <= until[record.place]]
    return run


def edit(change: Callable[[dict[str, Any]], object], output: Output = "results", field: str | None = None) -> Mutation:
    def mutate(run: Run) -> None:
        record = run.any(output, field)
        value = body(record)
        change(value)
        run.rewrite(record, replace(record, value=encoded(value)))

    return mutate


def add(field: str, step: int | float | Decimal) -> Mutation:
    def change(value: dict[str, Any]) -> None:
        old = value["sum"][field]
        value["sum"][field] = str(Decimal(old) + step) if isinstance(step, Decimal) else old + step

    return edit(change, "results", field)


def lose_window(run: Run) -> None:
    lost = body(run.any("results"))
    for record in run.final:
        if record.output != "rejects" and all(body(record)[x] == lost[x] for x in ("aggregate", "key", "start")):
            run.rewrite(record, None)


def tear(run: Run) -> None:
    place = run.order.choice(run.live).place
    torn = [record for record in run.live if record.place == place][-2:]
    run.final = [record for record in run.final if not any(is_at(record, other) for other in torn)]


def change_afterwards(run: Run) -> None:
    seen = run.order.choice(run.live)
    run.final = [replace(record, value=b"?") if is_at(record, seen) else record for record in run.final]


def reorder(run: Run) -> None:
    """There are more windows than partitions, so that one has two of them."""
    by_key: dict[Any, list[Record]] = {}
    for record in run.final:
        if record.output == "results":
            by_key.setdefault((record.place, body(record)["aggregate"], str(body(record)["key"])), []).append(record)
    one, other = run.order.sample(run.order.choice([records for records in by_key.values() if len(records) > 1]), 2)
    run.rewrite(one, replace(other, offset=one.offset))
    run.rewrite(other, replace(one, offset=other.offset))


def hurry(run: Run) -> None:
    at = run.order.choice([at for at, record in enumerate(run.live) if record.output == "results"])
    run.live[at] = replace(run.live[at], at_ms=from_rfc3339(body(run.live[at])["end"]) + LAG - 1)


def appear_behind(run: Run) -> None:
    last = {record.place: record.offset for record in run.live}
    run.live.remove(run.order.choice([record for record in run.live if record.offset < last[record.place]]))


MUTATIONS: list[tuple[str, str, Mutation]] = [
    ("lost", "a result is lost", lambda run: run.rewrite(run.any("results"), None)),
    ("lost", "a correction is lost", lambda run: run.rewrite(run.any("corrections"), None)),
    ("lost", "a window is lost", lose_window),
    ("lost", "a key is another", edit(lambda value: value["key"].update(shard=7))),
    ("lost", "a correction counts less", edit(lambda value: value.update(count=value["count"] - 1), "corrections")),
    ("surplus", "a count is one more", edit(lambda value: value.update(count=value["count"] + 1))),
    ("surplus", "a correction comes twice", lambda run: run.final.append(run.after(run.any("corrections")))),
    ("doubled", "a result comes twice", lambda run: run.final.append(run.after(run.any("results")))),
    ("wrong_sum", "an int is one more", add("n", 1)),
    ("wrong_sum", "an int of many digits is one more", add("huge", 1)),
    ("wrong_sum", "a decimal is one less", add("paid.tax", Decimal("-0.01"))),
    ("wrong_sum", "a float is a little more", add("heat", 2**-40)),
    ("rejected", "a reject is lost", lambda run: run.rewrite(run.any("rejects"), None)),
    ("rejected", "a reject comes twice", lambda run: run.final.append(run.after(run.any("rejects")))),
    ("rejected", "a reason is gone", lambda run: run.rewrite(old := run.any("rejects"), replace(old, reason=""))),
    ("retracted", "a transaction was torn", tear),
    ("retracted", "an uncommitted record was seen", lambda run: run.live.append(run.after(run.order.choice(run.live)))),
    ("retracted", "a record is another one afterwards", change_afterwards),
    ("seen_twice", "a record was read twice", lambda run: run.live.append(run.order.choice(run.live))),
    ("seen_twice", "offsets fell", lambda run: run.live.reverse()),
    ("unseen", "a record appeared behind the reader", appear_behind),
    ("reordered", "two windows of a key changed places", reorder),
    ("unreadable", "a correction is not late", edit(lambda value: value.update(late_by_ms=-1), "corrections")),
    ("unreadable", "a window is off the grid", edit(lambda value: value.update(OFF_GRID), field="huge")),
    ("early", "a window was seen early", hurry),
]

WRONG_VALUES: dict[str, list[Any]] = {
    "aggregate": ["per_supplier", ["per_customer"]],
    "key": [{}, ["ada"], {"who": 1.5}, {"who": True}, {"who": 2**63}, {"who": "\ud800"}],
    "start": ["", 0, "2026-01-01T00:00:00Z", "1927-01-15T08:00:00Z"],
    "count": [0, -1, True, 1.0, "1"],
    "sum": [{}, [], dict(reversed(SUMS.items())) | {"paid.tax": "10.50"}],
    "n": [1.0, True, "1", None, float("nan")],
    "paid.tax": [1, "1", "1.0", "1.000", "01.00", "+1.00", "-0.00", "1e2", "Infinity"],
    "heat": ["1", True, float("inf")],
}
WRONG_TEXTS: dict[bytes, list[bytes]] = {
    b'{"agg': [b'{"Agg', b' {"agg', b'[{"agg', b"\xff", b"", b'{"aggregate":"x","agg'],
    b'Z","end"': [b'.000Z","end"', b'.500Z","end"', b'+00:00","end"', b'Z","END"', b'Z", "end"'],
    b'"n":': [b'"m":', b'"n":0,"n":', b'"n":' + b"9" * 5_000, b'"n":' + b"[" * 5_000, b'"n":' + b'{"x":' * 5_000],
    b"}}": [b"e999}}", b"}", b"}} "],
}
WRONG = [(name, new) for wrong in (WRONG_VALUES, WRONG_TEXTS) for name, all_new in wrong.items() for new in all_new]


@given(st.integers())
def test_a_right_run_passes(seed: int) -> None:
    run = right(seed)
    verdict = judge(EXPECTED, run.live, run.final)
    assert verdict.passed and verdict.violations == ()
    assert verdict.results + verdict.corrections == len(run.final) - 3 and verdict.rejects == 3


@pytest.mark.parametrize(("kind", "mutate"), [pytest.param(*one[::2], id=one[1]) for one in MUTATIONS])
@settings(max_examples=examples(25))
@given(seed=st.integers())
def test_one_thing_that_must_not_be_is_found(kind: str, mutate: Mutation, seed: int) -> None:
    run = right(seed)
    mutate(run)
    assert kind in run.found()


@pytest.mark.parametrize(("old", "new"), WRONG)
def test_what_is_not_as_documented_is_unreadable(old: str | bytes, new: Any) -> None:
    run = right(1)
    record = run.any("results", "huge")
    value = body(record)
    if isinstance(old, str):
        (value["sum"] if old in SUMS else value)[old] = new
    text = json.dumps(value, separators=(",", ":")).encode() if isinstance(old, str) else record.value.replace(old, new)
    run.rewrite(record, replace(record, value=text))
    assert run.found().keys() >= {"unreadable", "lost"}


@given(st.integers(), st.integers(0, 255), st.floats(0, 1, exclude_max=True))
def test_no_byte_of_a_result_can_be_another(seed: int, byte: int, where: float) -> None:
    run = right(seed)
    record = run.any("results")
    value = bytearray(record.value)
    value[int(where * len(value))] = byte
    with contextlib.suppress(ValueError):
        assume(json.loads(value) != body(record))  # 5e0 is 5.0
    run.rewrite(record, replace(record, value=bytes(value)))
    assert run.found().keys() & {"unreadable", "lost", "surplus", "wrong_sum", "doubled"}


@pytest.mark.parametrize(("count", "tax", "kind"), [(6, "0.01", "wrong_sum"), (7, "10.50", "surplus"), (5, "0.01", "")])
def test_an_open_window_holds_no_more_than_all(count: int, tax: str, kind: str) -> None:
    value = encoded(window(ANSWERS["per_customer"], 0, T0, count, SUMS | {"paid.tax": Decimal(tax)}))
    verdict = judge(replace(EXPECTED, closed_ms=T0, rejected={}), [], [Record("results", ("r", 0), 0, 0, value)])
    assert [violation.kind for violation in verdict.violations] == [kind] * bool(kind)


def test_the_key_that_fewer_windows_have_is_the_wrong_one() -> None:
    run = right(1)
    edit(lambda value: value["key"].update(shard=7), field="huge")(run)
    assert '"shard":7}' in run.found()["surplus"] and '"shard":7}' not in run.found()["lost"]


def test_all_are_counted_and_some_are_named() -> None:
    verdict = judge(replace(EXPECTED, rejected={}), [], [])
    assert verdict.count == 3 * 4 + 2 * 4 + 1 * 3 and [one.kind for one in verdict.violations] == ["lost"] * NAMED
    assert verdict.violations[0].detail.endswith("00Z: expected 3 keys, found 0 in all windows together")
