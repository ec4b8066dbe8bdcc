"""What ingest has to have done with each raw record: docs/records.md, "Clean records", judged afterwards.

A raw record that breaks a rule stands in rejects, once, with its reason. All others have an event, told by its
id, and each stands in one place:

- in clean, one record of each event. A further one may stand there only where it came beyond the horizon: its
  watermark is past the event time of the one before it by more than that, or it was sent again by
  ``surecount rejects replay``. "Before" is by watermark, none being the lowest, then by event time;
- in rejects as ``beyond_horizon``, which only ingest can know, or as one that ingest has given up;
- otherwise it is a duplicate, and stands in the duplicates topic where there is one.

Outputs hold key, value, Kafka timestamp and own headers as they came.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from surecount.audit.beginnings import NOTHING, Deleted, StandIns
from surecount.audit.matching import U64, Columns, Matcher, Oddity, Positions
from surecount.audit.origins import Places
from surecount.audit.report import Difference, Differences, Flow, IngestBooks, Kind
from surecount.audit.rules import GIVEN_UP
from surecount.audit.truth import Verdict

BEYOND_HORIZON = "beyond_horizon"
NO_WATERMARK = -(1 << 63)

_CLEAN, _REJECTS, _DUPLICATES = 1, 2, 3
_TOPICS = {_CLEAN: "clean", _REJECTS: "rejects", _DUPLICATES: "duplicates"}
# What an output is that should not be there, that stands there again, and whose content differs.
_KINDS: dict[int, tuple[Kind, Kind, Kind]] = {
    _CLEAN: ("clean_unexpected", "clean_doubled", "clean_changed"),
    _REJECTS: ("reject_unexpected", "reject_unexpected", "reject_changed"),
    _DUPLICATES: ("duplicate_unexpected", "duplicate_unexpected", "duplicate_changed"),
}
# By what a record was found as, nothing included: where it stands among those of its event.
_RANKS = np.array([1, 0, 0, 2], np.uint8)
_ACCEPTED = 0
_NO_VERDICT = 255
# The ids are judged in so many parts, as sorting them all at once would double the memory.
_PARTS = 16


class RawRecords:
    """The raw records, in any order: 33 bytes for each."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.by_pathway: Counter[str] = Counter()
        self.by_reason: Counter[str] = Counter()
        self.replayed: set[int] = set()
        """Origins of those that were sent again, each a further record of its origin."""
        self.columns = Columns(origin="Q", content="Q", id="Q", time="q", verdict="B")
        self._codes: dict[str, int] = {}

    def add(
        self,
        origins: Sequence[int],
        contents: Iterable[int],
        ids: Iterable[int],
        verdicts: Sequence[Verdict],
        timestamps: Sequence[int],
    ) -> None:
        """Add records, with Kafka's timestamps; the id of a rejected one does not matter."""
        self.by_pathway += self.places.by_pathway(np.array(origins, np.uint64))
        rejected = [verdict for verdict in verdicts if isinstance(verdict, str)]
        self.by_reason.update(rejected)
        for reason in rejected:
            self._codes.setdefault(reason, len(self._codes) + 1)
        self.columns.extend(
            origin=origins,
            content=contents,
            id=ids,
            time=[
                ms if isinstance(verdict, str) else verdict[0] for verdict, ms in zip(verdicts, timestamps, strict=True)
            ],
            verdict=[self._codes[verdict] if isinstance(verdict, str) else _ACCEPTED for verdict in verdicts],
        )

    def code(self, reason: str) -> int:
        """The verdict on a raw record that may stand in rejects for this reason."""
        return _ACCEPTED if reason == BEYOND_HORIZON else self._codes.get(reason, _NO_VERDICT)

    def reason(self, code: int) -> str:
        """The reason of a verdict."""
        return next(reason for reason, its in self._codes.items() if its == code)


class IngestJudge:
    """Holds what ingest wrote against all raw records, which it takes over: 10 more bytes for each."""

    def __init__(
        self,
        raw: RawRecords,
        differences: Differences,
        *,
        horizon_ms: int,
        has_duplicates_topic: bool,
        deleted: Deleted = NOTHING,
    ) -> None:
        self.beyond_horizon = 0
        """Records that were rejected for that."""
        self.given_up: list[tuple[str, str, Verdict]] = []
        """Records that were given up: reason, origin, and the verdict."""
        self.counted_again = 0
        """Clean records of events that stood in clean before, beyond the horizon."""
        self.stand_ins = StandIns()
        self._deleted = deleted
        self._before_cut: Counter[str] = Counter()
        self._outputs_deleted: Counter[str] = Counter()
        self._raw = raw
        self._differences = differences
        self._places = raw.places
        self._horizon_ms = horizon_ms
        self._has_duplicates_topic = has_duplicates_topic
        self._written: dict[int, Counter[str]] = {topic: Counter() for topic in _TOPICS}
        columns = raw.columns.sorted()
        self._records = Matcher(columns["origin"], columns["content"], columns["verdict"])
        self._ids: U64 = columns["id"]
        self._times: npt.NDArray[np.int64] = columns["time"]
        self._watermarks = np.full(len(self._ids), NO_WATERMARK, np.int64)
        self._replayed = np.zeros(len(self._ids), bool)

    def before_cut(self, origins: Sequence[int]) -> list[bool]:
        """Which outputs are of raw records that are deleted."""
        if self._deleted.raw is None:
            return [False] * len(origins)
        found, there = np.array(origins, np.uint64), self._records.origins
        deleted = self._deleted.raw.deleted(found)
        at = np.minimum(np.searchsorted(there, found), max(0, len(there) - 1))
        # A partition of copies may still hold what another one has lost.
        known = there[at] == found if len(there) else np.zeros(len(found), bool)
        return (deleted & ~known).tolist()  # type: ignore[no-any-return]

    def find_before_cut(self, origins: Sequence[int], *, is_clean: bool) -> None:
        """Clean records, or else rejects, of raw records that are deleted."""
        by_pathway = self._places.by_pathway(np.array(origins, np.uint64))
        self._written[_CLEAN if is_clean else _REJECTS] += by_pathway
        self._before_cut += by_pathway

    def find_clean(
        self, origins: Sequence[int], contents: Sequence[int], watermarks: Sequence[int], replayed: Sequence[bool]
    ) -> None:
        """Records of the clean topic: digests of their origins and contents, and what their headers say."""
        positions = self._find(_CLEAN, origins, contents)
        known = positions >= 0
        self._watermarks[positions[known]] = np.array(watermarks, np.int64)[known]
        self._replayed[positions[known]] = np.array(replayed, bool)[known]

    def find_rejects(self, origins: Sequence[int], contents: Sequence[int], reasons: Sequence[str]) -> None:
        """Records of the rejects topic that are ingest's."""
        self._find(_REJECTS, origins, contents, reasons)
        self.beyond_horizon += reasons.count(BEYOND_HORIZON)

    def find_duplicates(self, origins: Sequence[int], contents: Sequence[int]) -> None:
        """Records of the duplicates topic."""
        self._find(_DUPLICATES, origins, contents)

    def close(self, pathways: Iterable[str]) -> IngestBooks:
        """Judge what is missing, and all events; then the differences are complete, and these are the books."""
        self._stand_in()
        records = self._records
        unfound = np.flatnonzero((records.verdicts != _ACCEPTED) & (records.found == 0))
        self._missing(unfound, self._deleted.rejects, self._missing_reject)
        events = (records.verdicts == _ACCEPTED) & (records.found != _REJECTS)
        # By the lowest bits, which differ in digests and in origins.
        parts = (self._ids % np.uint64(_PARTS)).astype(np.uint8)
        duplicates: Counter[str] = Counter()
        for part in range(_PARTS):
            duplicates += self._judge_events(np.flatnonzero(events & (parts == part)))
        raw, clean, rejected = self._raw.by_pathway, self._written[_CLEAN], self._written[_REJECTS]
        before, gone = self._before_cut, self._outputs_deleted
        names = dict.fromkeys([*pathways, *raw, *clean, *rejected, *before])
        return IngestBooks({n: Flow(raw[n], clean[n], rejected[n], duplicates[n], before[n], gone[n]) for n in names})

    def _stand_in(self) -> None:
        """Take clean records for the raw ones that are deleted."""
        columns, records = self.stand_ins.columns.sorted(), self._records
        number = len(columns["origin"])
        records.origins = np.concatenate([records.origins, columns["origin"]])
        records.verdicts = np.concatenate([records.verdicts, np.full(number, _ACCEPTED, np.uint8)])
        records.found = np.concatenate([records.found, np.full(number, _CLEAN, np.uint8)])
        self._ids = np.concatenate([self._ids, columns["id"]])
        self._times = np.concatenate([self._times, columns["time"]])
        self._watermarks = np.concatenate([self._watermarks, columns["watermark"]])
        self._replayed = np.concatenate([self._replayed, columns["replayed"].astype(bool)])

    def _missing(self, positions: Positions, deleted: int, difference: Callable[[int], Difference]) -> None:
        """Raw records that are in no output, of which those of up to ``deleted`` may be deleted."""
        gone = self._times[positions] <= deleted
        self._outputs_deleted += self._places.by_pathway(self._records.origins[positions[gone]])
        self._differences.add_all(positions[~gone].tolist(), difference)

    def _judge_events(self, members: Positions) -> Counter[str]:
        """All records of some events; returns the duplicates by pathway."""
        ranks = _RANKS[self._records.found[members]]
        clean_order = self._replayed[members], self._times[members], self._watermarks[members]
        members = members[np.lexsort((*clean_order, ranks, self._ids[members]))]
        # Now those of an event stand together: clean ones first and in their order, then what is not found.
        is_clean = self._records.found[members] == _CLEAN
        ids = self._ids[members]
        is_first = np.ones(len(ids), bool)
        is_first[1:] = ids[1:] != ids[:-1]
        # One that came too late is in rejects.
        self._missing(
            members[is_first & ~is_clean], max(self._deleted.clean, self._deleted.rejects), self._missing_clean
        )
        again = np.flatnonzero(is_clean & ~is_first)
        self._judge_again(members[again - 1], members[again])
        duplicates = members[~is_clean & ~is_first]
        if self._has_duplicates_topic:
            unfound = duplicates[self._records.found[duplicates] != _DUPLICATES]
            unfound = unfound[self._times[unfound] > self._deleted.latest]
            self._differences.add_all(unfound.tolist(), self._missing_duplicate)
        return self._places.by_pathway(self._records.origins[duplicates])

    def _judge_again(self, before: Positions, after: Positions) -> None:
        """Clean records ``after`` others of the same events."""
        is_beyond = self._watermarks[after] > self._times[before] + self._horizon_ms
        is_beyond |= self._replayed[after]
        self.counted_again += int(is_beyond.sum())
        there = dict(zip(after[~is_beyond].tolist(), before[~is_beyond].tolist(), strict=True))

        def doubled(position: int) -> Difference:
            detail = f"is in clean, and its event was there already: {self._name(there[position])}"
            return self._difference("clean_doubled", position, detail)

        self._differences.add_all(list(there), doubled)

    def _find(
        self, topic: int, origins: Sequence[int], contents: Sequence[int], reasons: Sequence[str] | None = None
    ) -> Positions:
        found = np.array(origins, np.uint64)
        self._written[topic] += self._places.by_pathway(found)
        verdicts = [_ACCEPTED] * len(origins) if reasons is None else list(map(self._verdict, origins, reasons))
        positions, odd = self._records.match(found, np.array(contents, np.uint64), np.array(verdicts, np.uint8), topic)
        for oddity in odd:
            if oddity.fault != "changed" and self._is_before_a_replay(origins[oddity.at]):
                self._before_cut += self._places.by_pathway(found[oddity.at : oddity.at + 1])
                continue
            seen = f"in {_TOPICS[topic]}" + (f" as {reasons[oddity.at]}" if reasons else "")
            kind, detail = self._explain(topic, oddity, seen)
            self._differences.add(Difference(kind, detail, self._places.name(origins[oddity.at])))
        return positions

    def _is_before_a_replay(self, origin: int) -> bool:
        """Whether an output may be of a record that is deleted, and not of the replay of it that is there."""
        deleted = self._deleted.raw
        return (
            deleted is not None
            and origin in self._raw.replayed
            and bool(deleted.deleted(np.array([origin], np.uint64)))
        )

    def _verdict(self, origin: int, reason: str) -> int:
        """The verdict on a raw record that may stand in rejects for this reason: any, where it was given up."""
        code = self._raw.code(reason)
        if reason not in GIVEN_UP:
            return code
        records = self._records
        begin, end = (int(np.searchsorted(records.origins, np.uint64(origin), side)) for side in ("left", "right"))
        verdicts = [int(records.verdicts[at]) for at in range(begin, end) if not records.found[at]]
        if not verdicts or code in verdicts:
            return code
        own = verdicts[0]
        self.given_up.append((reason, self._places.name(origin), () if own == _ACCEPTED else self._raw.reason(own)))
        return own

    def _explain(self, topic: int, oddity: Oddity, seen: str) -> tuple[Kind, str]:
        unexpected, doubled, changed = _KINDS[topic]
        position = oddity.position
        match oddity.fault:
            case "unknown":
                return unexpected, f"is {seen}, and is no raw record"
            case "taken" if self._records.found[position] == topic:
                return doubled, f"is {seen} more than once"
            case "taken":
                return unexpected, f"is {seen}, and in {_TOPICS[int(self._records.found[position])]}"
            case "changed":
                return changed, f"is {seen} with another key, value, timestamp or header"
            case "other" if self._records.verdicts[position] == _ACCEPTED:
                return unexpected, f"is {seen}, and no reject"
        reason = self._raw.reason(int(self._records.verdicts[position]))
        if topic != _REJECTS:
            return unexpected, f"is {reason}, and {seen}"
        # It is the one reject of that record, if not as it should be.
        self._records.found[position] = _REJECTS
        return changed, f"is {reason}, and {seen}"

    def _missing_reject(self, position: int) -> Difference:
        reason = self._raw.reason(int(self._records.verdicts[position]))
        return self._difference("reject_missing", position, f"is {reason}, and not in rejects")

    def _missing_clean(self, position: int) -> Difference:
        return self._difference("clean_missing", position, "is not in clean, nor is another record of its event")

    def _missing_duplicate(self, position: int) -> Difference:
        return self._difference("duplicate_missing", position, "is a duplicate, and not in duplicates")

    def _difference(self, kind: Kind, position: int, detail: str) -> Difference:
        return Difference(kind, detail, self._name(position))

    def _name(self, position: int) -> str:
        return self._places.name(int(self._records.origins[position]))
