"""Metrics of what workers see: :mod:`udfs.flows`, as Flink shows them."""

from __future__ import annotations

import time
from typing import Any

from udfs.flows import FLOWS, SPANS_S, WINDOWS, Waiting


class Flows:
    """Meters of events by kind. Without ``metrics`` (python.metric.enabled is false) nothing is told."""

    def __init__(self, metrics: Any) -> None:
        self._groups = {} if metrics is None else {name: metrics.add_group(FLOWS).add_group(name) for name in SPANS_S}
        self._meters: dict[str, list[Any]] = {}

    def count(self, kind: str, number: int) -> None:
        """So many events of a kind."""
        if kind not in self._meters:
            self._meters[kind] = [group.meter(kind, SPANS_S[name]) for name, group in self._groups.items()]
        for meter in self._meters[kind]:
            meter.mark_event(number)


def tell_waiting(metrics: Any, waiting: Waiting) -> None:
    """Gauges of what windows wait for."""
    if metrics is not None:
        group = metrics.add_group(WINDOWS)
        for name in ("newest", "since", "moved"):
            group.gauge(name, lambda name=name: getattr(waiting, name))


def now_ms() -> int:
    """ms since 1970, by the clock of this machine."""
    return time.time_ns() // 1_000_000
