"""``surecount send``: lines of a file or of standard input into a topic, none lost and none twice."""

from __future__ import annotations

import os
import re
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import chain, count
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from surecount import topics
from surecount.config import Pathway, Pipeline, format_duration
from surecount.config.names import FieldPath
from surecount.errors import SurecountError
from surecount.lines import Chunk, Input, Position, chunks, opened
from surecount.topic_rules import Topic
from surecount.transactions import OVERHEAD_BYTES, EndedError, Transactions, committed

_ID = re.compile(r"[A-Za-z0-9._-]{1,120}")
_GIVE_UP_MS = range(1_000, 600_001)
_NOT_FOR_SCRIPTS = ("elapsed_s", "stopped_by")

OnProgress = Callable[[int, int | None], None]
"""Gets the bytes that are sent, and the size of the file; of standard input the records, and None."""


@dataclass(frozen=True)
class Options:
    """What to send, where to, and how. ``file`` is None for standard input."""

    file: Path | None
    pathway: str | None = None
    topic: str | None = None
    key: str | None = None
    id: str | None = None
    resume: bool = False
    again: bool = False
    starts_at: int = 0
    give_up_ms: int = 120_000

    @property
    def anew(self) -> bool:
        """Whether the ID must be one under which nothing was sent."""
        return not self.resume and not self.again


@dataclass
class Summary:
    """What was committed: ``bytes`` of the input, which end at ``position``."""

    topic: str
    id: str
    position: int
    resumed_from: int | None
    records: int = 0
    bytes: int = 0
    blank: int = 0
    without_key: int = 0
    elapsed_s: float = 0.0
    stopped_by: int | None = None

    def add(self, chunk: Chunk) -> None:
        """Count a chunk that was committed."""
        self.records += len(chunk.records)
        self.bytes += chunk.size
        self.blank += chunk.blank
        self.without_key += chunk.without_key
        self.position += chunk.size

    def to_dict(self) -> dict[str, object]:
        """For scripts."""
        return {name: value for name, value in asdict(self).items() if name not in _NOT_FOR_SCRIPTS}

    def __str__(self) -> str:
        if self.resumed_from == self.position and self.stopped_by is None:
            return f"nothing left to send: all {self.position:,} bytes are in {self.topic}"
        text = f"{self.records:,} records in {self.elapsed_s:.1f} s to {self.topic}; {self.blank:,} blank lines skipped"
        text += f"; {self.without_key:,} records without key" if self.without_key else ""
        if self.stopped_by is not None:
            go_on = f"at byte {self.position:,} of the input; --id {self.id} --resume goes on there"
            text += f"\nstopped {go_on if self.position else 'before anything was sent; the same command sends it'}"
        return text


@dataclass(frozen=True)
class _Unsent:
    """Why sending ended before the input did, and what is left of it."""

    why: str
    sent: Position
    rest: Iterable[bytes | None]
    gave_up: bool = False


def send(pipeline: Pipeline, options: Options, on_progress: OnProgress = lambda _done, _size: None) -> Summary:
    """Send an input's lines, each as one record.

    The first Ctrl-C or SIGTERM ends it early, with ``stopped_by`` set, when the transaction under way is
    done; the second one at once. Raises SurecountError where not all was sent.
    """
    _check(options)
    pathway, name = _chosen(pipeline, options)
    run_id = options.id or default_id(options.file)
    group = pipeline.group_id(f"send.{run_id}")
    stop = _Stop()
    with opened(options.file) as source:
        try:
            kafka, topic = pipeline.kafka_of(pathway), _target(pipeline, pathway, name)
            if options.anew:
                # Asked before transactions begin, so that a send that runs under this ID is not shut out.
                _refuse_if_begun(committed(kafka, topic.name, group), run_id)
            transactions = Transactions(kafka, topic, group, options.give_up_ms, stop)
            known = transactions.start()
        except topics.NoBrokerError as error:
            raise _never_begun(error, source, options, run_id) from error
        start = _start(known, source, options, run_id)
        resumed_from = known.byte if options.resume and known is not None else None
        summary = Summary(topic.name, run_id, start.byte, resumed_from)

        def sent(chunk: Chunk) -> None:
            summary.add(chunk)
            size = source.size
            on_progress(summary.records if size is None else summary.position - options.starts_at, size)

        began = time.monotonic()
        with stop.kept():
            unsent = _send_all(transactions, source, start, topic, options, stop, sent)
        summary.elapsed_s = time.monotonic() - began
        summary.stopped_by = stop.number
        if unsent is not None and not stop():
            raise _failure(unsent, options, run_id)
    return summary


def _send_all(
    transactions: Transactions,
    source: Input,
    start: Position,
    topic: Topic,
    options: Options,
    stop: _Stop,
    sent: Callable[[Chunk], None],
) -> _Unsent | None:
    """Send chunk after chunk; where that ends before the input does, what is left."""
    largest = topic.max_message_bytes - OVERHEAD_BYTES
    key = tuple(options.key.split(".")) if options.key else None
    # A line end may be behind the largest value.
    lines = source.lines(largest + 1)
    chunk = Chunk(start)
    try:
        if options.again:
            # Nothing but the position 0, so that --resume goes on with this run, not with the one before.
            transactions.send(chunk)
        for chunk in chunks(lines, start, key=key, largest=largest, stopped=stop):
            if chunk.lines:
                transactions.send(chunk)
                sent(chunk)
    except EndedError as ended:
        why = f"gave up after {format_duration(options.give_up_ms)}: {ended}" if ended.gave_up else str(ended)
        if ended.undecided:
            why += f"\nKafka has not said whether the {len(chunk.lines):,} lines after those below were committed, too"
        return _Unsent(why, chunk.start, chain(chunk.lines, [chunk.too_large], lines), ended.gave_up)
    if chunk.too_large:
        end = chunk.end
        why = (
            f"line {end.line + 1:,}, at byte {end.byte:,}, makes a record of more than {largest:,} bytes: "
            f"too large for {topic.name} (max.message.bytes={topic.max_message_bytes})"
        )
        return _Unsent(why, end, chain([chunk.too_large], lines))
    return None


def default_id(file: Path | None) -> str:
    """The ID of a file is made of its path; standard input has a new one each time."""
    if file is None:
        return f"stdin-{secrets.token_hex(4)}"
    path = file.resolve()
    name = re.sub(r"[^A-Za-z0-9._-]", "_", path.name)[:80]
    return f"{name}-{blake2b(os.fsencode(path), digest_size=4).hexdigest()}"


def _check(options: Options) -> None:
    if options.resume and options.again:
        raise SurecountError("--resume and --again exclude each other", "--resume goes on, --again starts anew")
    if options.id is not None and not _ID.fullmatch(options.id):
        raise SurecountError(f"--id {options.id!r} is no ID", "up to 120 letters, digits, dots, - and _")
    if options.resume and options.file is None and options.id is None:
        raise SurecountError("--resume of standard input needs --id", "name the ID under which it was sent")
    if options.starts_at and not (options.resume and options.id):
        raise SurecountError(
            "--starts-at needs --resume and --id", "the message that named the rest file has all three"
        )
    if options.give_up_ms not in _GIVE_UP_MS:
        raise SurecountError(f"--give-up-after {format_duration(options.give_up_ms)}", "give 1 s to 10 min")
    if options.key is not None:
        try:
            TypeAdapter(FieldPath).validate_python(options.key)
        except ValidationError as error:
            raise SurecountError(f"--key {options.key!r} is no field", "such as customer, or order.customer") from error


def _chosen(pipeline: Pipeline, options: Options) -> tuple[Pathway, str]:
    """The pathway that is meant, and the name of its topic; raises SurecountError where the pipeline has none."""
    pathways = {pathway.name: pathway for pathway in pipeline.pathways}
    pathway = pathways.get(options.pathway) if options.pathway else pipeline.pathways[0]
    if pathway is None:
        raise SurecountError(f"there is no pathway {options.pathway!r}", f"there are: {', '.join(pathways)}")
    name = options.topic or pathway.topics[0]
    if name not in pathway.topics:
        raise SurecountError(
            f"topic {name!r} is not of pathway {pathway.name!r}", f"its topics are: {', '.join(pathway.topics)}"
        )
    return pathway, name


def _target(pipeline: Pipeline, pathway: Pathway, name: str) -> Topic:
    """The topic of that name; raises SurecountError where it is not there."""
    topic = topics.describe_raw(pipeline, pathway).get(name)
    if topic is None:
        servers = pipeline.kafka_of(pathway).bootstrap_servers
        raise SurecountError(
            f"topic {name!r} does not exist at {servers}",
            f"make it: kafka-topics.sh --bootstrap-server {servers} --create --topic {name} --partitions 4",
        )
    return topic


def _start(known: Position | None, source: Input, options: Options, run_id: str) -> Position:
    """Where to begin, with the input read up to there."""
    if options.anew:
        _refuse_if_begun(known, run_id)
    if not options.resume:
        return Position()
    if known is not None:
        return source.pass_over(known, options.starts_at)
    raise SurecountError(
        f"Kafka knows no position of ID {run_id}: nothing was sent with it, or longer ago than brokers keep positions "
        "(offsets.retention.minutes, 7 days by default)",
        "if nothing was sent, leave out --resume; else find the last line that is in the topic, and send those behind "
        "it from a file of their own",
    )


def _refuse_if_begun(known: Position | None, run_id: str) -> None:
    if known is not None and known.byte:
        raise SurecountError(
            f"{known.byte:,} bytes ({known.line:,} lines) were already sent with ID {run_id}",
            "--resume goes on there, --again sends the whole input once more",
        )


def _failure(unsent: _Unsent, options: Options, run_id: str) -> SurecountError:
    """What was sent, where the rest is, and how to go on."""
    sent = unsent.sent
    text = f"{unsent.why}\nsent: the first {sent.byte:,} bytes of the input ({sent.line:,} lines)"
    # Without a position there is nothing to resume.
    resumes = options.resume or sent.byte > 0
    go_on = f"the same command with --resume sends the rest of {options.file}" if resumes else "send again"
    if options.file is None:
        rest = write_rest(Path(f"{run_id}.rest"), unsent.rest)
        resume = f" --resume --starts-at {sent.byte}" if resumes else ""
        go_on = f"surecount send PIPELINE {rest} --id {run_id}{resume} sends it"
        text += f"; the rest is in {rest}"
    elif unsent.gave_up:
        rest = write_rest(options.file.with_name(f"{options.file.name}.rest"), unsent.rest)
        text += f"; the rest is in {rest}, too"
    return SurecountError(text, go_on, exit_code=1)


def _never_begun(error: SurecountError, source: Input, options: Options, run_id: str) -> SurecountError:
    """Nothing was sent, and what comes on standard input comes only once."""
    if options.file is not None:
        return SurecountError(f"{error.message}\nsent: nothing", f"{error.hint}, and send again", exit_code=1)
    rest = write_rest(Path(f"{run_id}.rest"), source.lines(0))
    go_on = f"surecount send PIPELINE {rest} --id {run_id}{' --resume' if options.resume else ''} sends it"
    return SurecountError(f"{error.message}\nsent: nothing; all of the input is in {rest}", go_on, exit_code=1)


def write_rest(path: Path, lines: Iterable[bytes | None]) -> Path:
    """Write lines to a new file: ``path``, or that with a number behind; the file."""
    for number in count(1):
        rest = path if number == 1 else path.with_name(f"{path.name}.{number}")
        try:
            with rest.open("xb") as file:
                file.writelines(line for line in lines if line)
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            continue
        except OSError as error:
            raise SurecountError(f"the rest of the input can't be written to {rest}: {error.strerror}") from error
        return rest
    raise AssertionError("there is always a next number")


class _Stop:
    """Keeps the first Ctrl-C or SIGTERM until a transaction is done; the second one does what it always does."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self.number is not None

    @contextmanager
    def kept(self) -> Iterator[None]:
        if threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)
            }
        try:
            yield
        finally:
            self._restore()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number
        else:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
