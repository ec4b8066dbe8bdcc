"""What the audit takes from the run ledger: moments, the ids of topics, and what was lost before runs began."""

from __future__ import annotations

from dataclasses import replace

from surecount import config
from surecount.audit import LostAtStart, Moment
from surecount.ops.history import past
from surecount.ops.ledger import Moved, Run, config_of

PIPELINE = config.parse(
    {
        "name": "shop",
        "source": {"topics": ["in"], "event_time": "kafka", "event_id": "id"},
        "aggregate": [{"name": "a", "key": ["k"], "window": "1 min"}],
    },
    "test",
)


def run(number: int, offsets: dict[str, int], begins: dict[str, int], **changes: object) -> Run:
    made = Run(
        *(number, f"{number:032}", 1_000 * number, None, 1, False, config_of(PIPELINE), "", "", {}, "p"),
        offsets=tuple((topic, 0, offset) for topic, offset in offsets.items()),
        begins=tuple((topic, 0, offset) for topic, offset in begins.items()),
        topic_ids={"in": f"i{number}"},
        output_ids={"shop.clean": f"c{number}"},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


FIRST = run(1, {}, {"in": 3})
SECOND = run(2, {"in": 55}, {"in": 50})


def test_moments_and_ids() -> None:
    found = past(PIPELINE, "ingest", [FIRST, SECOND])
    # The first one began with nothing read; what was deleted before it began is not its loss.
    assert found.moments == [Moment(2_000, {("in", 0): 55})] and found.unread == []
    assert (found.topic_ids, found.output_ids) == ({"in": "i2"}, {"shop.clean": "c2"})
    assert len(found.epochs) == 1


def test_what_was_deleted_before_a_run_began() -> None:
    lost = [run(2, {"in": 55}, {"in": 80}), run(3, {"in": 90}, {"in": 91}, accepted=("records_gone",))]
    assert past(PIPELINE, "ingest", [FIRST, *lost]).unread == [
        LostAtStart(2, "in", 0, 55, 80, accepted=False),
        LostAtStart(3, "in", 0, 90, 91, accepted=True),
    ]
    # Clean records are written in transactions, whose markers no one reads.
    markers = run(2, {"shop.clean": 55}, {"shop.clean": 57})
    assert past(PIPELINE, "aggregate", [FIRST, markers]).unread == []


def test_topics_that_were_brought_back_have_other_ids_and_offsets() -> None:
    moved = replace(SECOND, moved=Moved("savepoint-1", (("in", 0, 5),)))
    assert past(PIPELINE, "ingest", [FIRST, moved]).topic_ids == {}
    third = run(3, {"in": 7}, {"in": 0}, generation=1)
    assert past(PIPELINE, "ingest", [FIRST, moved, third]).moments == [Moment(3_000, {("in", 0): 7})]
