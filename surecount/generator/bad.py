"""Records that can't be used: a table of kinds, each with the reason that docs/records.md gives it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from surecount.errors import SurecountError
from surecount.generator.layout import Layout, render
from surecount.generator.plan import in_unit
from udfs import reasons

HUGE_BYTES = 5_000_000

_YEAR_MS = 365 * 86_400_000
_YEAR_2999_MS = 32_472_144_000_000
_YEAR_10000_MS = 253_402_300_800_000
_FORTY_DIGITS = "1234567890" * 4


@dataclass(frozen=True)
class Sample:
    """A good event to spoil. ``texts`` holds the JSON text of each field by path, ``ms`` its time."""

    layout: Layout
    texts: dict[str, str]
    ms: int

    @property
    def key(self) -> str:
        """Path of the first key field."""
        return self.layout.first_key.path

    def json(self, **changes: str) -> bytes:
        """The event with other texts in some fields, each named by a role that :func:`_path` knows."""
        return self._with({_path(self.layout, role): text for role, text in changes.items()})

    def failing(self, reason: str) -> bytes:
        """The event with a value that a check rejects for this reason."""
        return self._with(dict(_faults(self.layout, reason)[:1]))

    def _with(self, texts: dict[str, str]) -> bytes:
        return render([*{**self.texts, **texts}.items()]).encode()

    def at(self, ms: int, rfc3339: str) -> bytes:
        """The event at another time, or with ``rfc3339`` where the pipeline's times are texts."""
        if self.layout.time.unit == "rfc3339":
            return self.json(time=json.dumps(rfc3339))
        return self.json(time=str(in_unit(ms, self.layout.time.unit)))

    def without_key(self) -> bytes:
        """The event less its first key field."""
        return render([(path, text) for path, text in self.texts.items() if path != self.key]).encode()

    def key_twice(self) -> bytes:
        """The event with its first key field written twice."""
        return render([*self.texts.items(), (self.key, self.texts[self.key])]).encode()

    def after(self, member: bytes) -> bytes:
        """The event with a further member in front."""
        return b"{" + member + b"," + self.json()[1:]


def _path(layout: Layout, role: str) -> str:
    """The path of the first field in a role, or empty where the pipeline has none.

    Roles are ``key``, ``time``, ``sum`` and, for the numbers among key and sums, their types.
    """
    sums = [f for aggregate in layout.plan.spec.aggregates for f in aggregate.sums]
    match role:
        case "key":
            return layout.first_key.path
        case "time":
            return layout.time.path or ""
        case "sum":
            return next((f.path for f in sums), "")
    return next((f.path for f in (*sums, layout.first_key) if f.type == role), "")


def _faults(layout: Layout, reason: str) -> list[tuple[str, str]]:
    """Fields by path, each with a JSON text that a check rejects for this reason and no other rule does."""
    domains = layout.plan.domains.items()
    return [(path, text) for path, domain in domains if (text := domain.faults().get(reason))]


@dataclass(frozen=True)
class Kind:
    """One way to be unusable: what it is called, why it is rejected, and how it is made (None: no value).

    ``needs`` names the role of a field that the pipeline must have, ``fits`` what else must hold.
    """

    name: str
    reason: str
    make: Callable[[Sample], bytes | None]
    needs: str = ""
    fits: Callable[[Layout], bool] = lambda _: True

    def sample(self, layout: Layout, event: int) -> bytes | None:
        """The record that spoils one event."""
        ms = int(layout.plan.times(np.array([event]))[0])
        return self.make(Sample(layout, layout.texts(event), ms))


def _time_unchecked(layout: Layout) -> bool:
    # Checks come before the event time's own rules.
    return layout.plan.domains[layout.time.path or ""].unchecked


def _unit_shows(layout: Layout) -> bool:
    # A time in a wrong unit is near 1970, and so were events from then.
    return _time_unchecked(layout) and layout.time.unit != "rfc3339" and layout.plan.start_ms > 20 * _YEAR_MS


def _failing(name: str, reason: str) -> Kind:
    """A kind for pipelines with a check that rejects values for this reason."""
    return Kind(name, reason, lambda s: s.failing(reason), fits=lambda layout: bool(_faults(layout, reason)))


def _decimals_too_many(sample: Sample) -> bytes:
    sums = (f for aggregate in sample.layout.plan.spec.aggregates for f in aggregate.sums)
    scale = next(f.scale for f in sums if f.type == "decimal")
    return sample.json(decimal="0." + "0" * scale + "1")


KINDS = (
    Kind("no value", reasons.TOMBSTONE, lambda _: None),
    Kind("empty", reasons.EMPTY, lambda _: b""),
    Kind("white space", reasons.EMPTY, lambda _: b" \n\t"),
    Kind("invalid UTF-8", reasons.INVALID_UTF8, lambda s: s.after(b'"note":"\xff\xfe"')),
    Kind("no JSON", reasons.NOT_JSON, lambda s: b"oops " + s.json()),
    Kind("cut off", reasons.NOT_JSON, lambda s: s.json()[:-1]),
    Kind("lone surrogate", reasons.NOT_JSON, lambda s: s.json(key=r'"\ud800"')),
    Kind(
        "nested 10,000 deep",
        reasons.NESTING_TOO_DEEP,
        lambda s: s.after(b'"deep":' + b"[" * 10_000 + b"]" * 10_000),
    ),
    Kind("array", reasons.NOT_AN_OBJECT, lambda s: b"[" + s.json() + b"]"),
    Kind("field twice", reasons.DUPLICATE_FIELD, Sample.key_twice),
    Kind("field missing", reasons.MISSING_FIELD, Sample.without_key),
    Kind("field null", reasons.NULL_FIELD, lambda s: s.json(key="null")),
    Kind("key is an object", reasons.MISTYPED_FIELD, lambda s: s.json(key="{}")),
    Kind("sum is a boolean", reasons.MISTYPED_FIELD, lambda s: s.json(sum="true"), needs="sum"),
    Kind("int with a fraction", reasons.MISTYPED_FIELD, lambda s: s.json(int="1.5"), needs="int"),
    Kind("NaN elsewhere", reasons.NOT_FINITE, lambda s: s.after(b'"note":NaN')),
    Kind("NaN", reasons.NOT_FINITE, lambda s: s.json(sum="NaN"), needs="sum"),
    Kind("float too large", reasons.NOT_FINITE, lambda s: s.json(float="1e999"), needs="float"),
    Kind("int of 40 digits", reasons.INTEGER_TOO_LARGE, lambda s: s.json(int=_FORTY_DIGITS), needs="int"),
    Kind("one decimal too many", reasons.TOO_MANY_DECIMALS, _decimals_too_many, needs="decimal"),
    Kind(
        "decimal of 40 digits",
        reasons.TOO_MANY_DECIMALS,
        lambda s: s.json(decimal=_FORTY_DIGITS),
        needs="decimal",
    ),
    Kind(
        "before 1970",
        reasons.EVENT_TIME_NEGATIVE,
        lambda s: s.at(-1_000, "1969-12-31T23:59:59Z"),
        needs="time",
        fits=_time_unchecked,
    ),
    Kind(
        "time in another unit",
        reasons.EVENT_TIME_UNIT,
        lambda s: s.json(time=str(s.ms // 1_000 if s.layout.time.unit == "ms" else s.ms)),
        needs="time",
        fits=_unit_shows,
    ),
    Kind(
        "no time",
        reasons.EVENT_TIME_OUT_OF_RANGE,
        lambda s: s.at(_YEAR_10000_MS, "2026-02-30T00:00:00Z"),
        needs="time",
        fits=_time_unchecked,
    ),
    Kind(
        "year 2999",
        reasons.EVENT_TIME_AHEAD,
        lambda s: s.at(_YEAR_2999_MS, "2999-01-01T00:00:00Z"),
        needs="time",
        fits=_time_unchecked,
    ),
    _failing("below a minimum", reasons.BELOW_MINIMUM),
    _failing("above a maximum", reasons.ABOVE_MAXIMUM),
    _failing("not allowed", reasons.NOT_ALLOWED),
)

HUGE = Kind(
    "5 MB",
    reasons.VALUE_TOO_LARGE,
    lambda s: s.after(b'"padding":"' + b"x" * HUGE_BYTES + b'"'),
    fits=lambda layout: layout.plan.spec.max_value_bytes < HUGE_BYTES,
)


def kinds(layout: Layout, *, huge: bool) -> tuple[Kind, ...]:
    """The kinds that make sense for a pipeline; raises SurecountError where huge values are no fault."""
    if huge and not HUGE.fits(layout):
        raise SurecountError(
            f"--huge makes values of {HUGE_BYTES:,} bytes, and source.max_value = "
            f"{layout.plan.spec.max_value_bytes:,} bytes lets them pass",
            "leave --huge out",
        )
    fitting = [kind for kind in KINDS if (not kind.needs or _path(layout, kind.needs)) and kind.fits(layout)]
    return (*fitting, HUGE) if huge else tuple(fitting)
