"""A live view of a pipeline: its jobs, their checkpoints, and windows as they close."""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, TopicPartition
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from surecount import topics
from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.ops.flink import Flink
from surecount.ops.submit import job_name

_SHOWN_WINDOWS = 8


@dataclass
class ClosedWindows:
    """What was seen of the results: per (aggregate, start) the keys and the count, the newest last."""

    windows: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    unreadable: int = 0

    def add(self, value: bytes | None) -> None:
        """Take in one result; what is none was written by someone else, and is counted as ``unreadable``."""
        try:
            result = json.loads(value or b"")
            window, count = (str(result["aggregate"]), str(result["start"])), int(result["count"])
        except (ValueError, KeyError, TypeError, RecursionError):
            self.unreadable += 1
            return
        entry = self.windows.setdefault(window, [0, 0])
        entry[0] += 1
        entry[1] += count

    def newest(self, number: int) -> list[tuple[str, str, int, int]]:
        """Aggregate, start, keys and count of the windows that closed last."""
        rows = [(name, start, keys, count) for (name, start), (keys, count) in self.windows.items()]
        return sorted(rows, key=lambda row: row[1])[-number:]

    def forget_but(self, number: int) -> None:
        """Keep only the newest windows."""
        keep = {(name, start) for name, start, _, _ in self.newest(number)}
        self.windows = {key: entry for key, entry in self.windows.items() if key in keep}


class Watch:
    """Looks at one pipeline's jobs and topics; use as a context manager."""

    def __init__(self, pipeline: Pipeline, flink: Flink) -> None:
        self._pipeline = pipeline
        self._flink = flink
        self._closed = ClosedWindows()
        self._counts = {"corrections": 0, "rejects": 0}
        self._progress: dict[str, deque[tuple[float, int]]] = {}
        self._consumer = Consumer(
            {
                **topics.client_config(pipeline.kafka),
                "group.id": f"surecount.{pipeline.name}.watch",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
            }
        )

    def __enter__(self) -> Self:
        names = self._pipeline.topics.all
        found = topics.offsets(self._pipeline.kafka, list(names))
        self._consumer.assign([TopicPartition(t, p, high) for (t, p), (_, high) in found.items()])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def poll(self, seconds: float) -> None:
        """Read what was committed, for so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for message in self._consumer.consume(5000, min(left, 0.2)):
                if error := message.error():
                    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                        raise SurecountError(f"topic {message.topic()} is gone")
                    continue  # the client goes on by itself
                self._take(message)
        self._closed.forget_but(4 * _SHOWN_WINDOWS)

    def _take(self, message: Any) -> None:
        outputs = self._pipeline.topics
        if message.topic() == outputs.results:
            self._closed.add(message.value())
        else:
            kind = "corrections" if message.topic() == outputs.corrections else "rejects"
            self._counts[kind] += 1

    def view(self) -> RenderableType:
        """What is known now, to be shown."""
        try:
            state: RenderableType = self._jobs()
        except SurecountError as error:  # a JobManager that restarts is worth watching
            state = Text(error.message, style="yellow")
        counts = self._counts
        seen = Text(f"seen here: {counts['corrections']:,} corrections, {counts['rejects']:,} rejects")
        if self._closed.unreadable:
            seen.append(f", {self._closed.unreadable:,} records among the results that are none", style="red")
        return Group(state, seen, self._windows())

    def _jobs(self) -> RenderableType:
        table = Table("job", "state")
        for column in (
            "read since its last restart",
            "/s",
            "checkpoints",
            "the last, s ago",
            "state, bytes",
            "restarts",
        ):
            table.add_column(column, justify="right")
        for name in self._pipeline.jobs:
            job = self._flink.running(job_name(self._pipeline, name))
            if job is None:
                table.add_row(name, Text("not running", style="yellow"))
                continue
            read = self._flink.records_read(job.id)
            found = self._flink.checkpoints(job.id)
            last = found["latest"]["completed"]
            age = f"{time.time() - last['latest_ack_timestamp'] / 1000:.0f}" if last else ""
            size = f"{last['state_size']:,}" if last else ""
            state = Text(job.state, style="green" if job.state == "RUNNING" else "yellow")
            counts = found["counts"]
            rate = f"{self._rate(name, read):,.0f}"
            table.add_row(name, state, f"{read:,}", rate, str(counts["completed"]), age, size, str(counts["restored"]))
        return table

    def _rate(self, job: str, read: int) -> float:
        progress = self._progress.setdefault(job, deque(maxlen=6))
        progress.append((time.monotonic(), read))
        (t0, n0), (t1, n1) = progress[0], progress[-1]
        return max(0, n1 - n0) / (t1 - t0) if t1 > t0 else 0

    def _windows(self) -> RenderableType:
        table = Table("aggregate", "window", title="windows that closed", title_justify="left")
        table.add_column("keys", justify="right")
        table.add_column("count", justify="right")
        for name, start, keys, count in self._closed.newest(_SHOWN_WINDOWS):
            table.add_row(name, start, f"{keys:,}", f"{count:,}")
        return table
