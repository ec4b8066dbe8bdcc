"""`surecount send` against a real broker: it is killed, its broker is stopped, others send with its ID."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka.admin import AdminClient

from surecount import config, topics, transactions
from surecount import lines as lines_module
from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.local.stack import Stack
from surecount.send import Options, send
from surecount.transactions import Transactions, committed
from surecount.waiting import wait_until
from tests.conftest import Running, read_committed

PIPELINE = """
[source]
topics = ["NAME.raw", "NAME.other"]
event_time = { field = "ts" }

[[aggregate]]
name = "a"
key = ["k"]
window = "1 min"
"""

SEND = [sys.executable, "-m", "surecount.cli", "send"]
PATIENCE_S = 60.0


@pytest.fixture
def run(make: Callable[..., Running]) -> Running:
    return make(PIPELINE, partitions=3)


def raw(pipeline: Pipeline) -> str:
    return pipeline.source.topics[0]


def lines_of(numbers: range) -> list[bytes]:
    """A line for each number, none like another; some are no JSON, or no text."""
    kinds = (b'{"k":"%d"}\r\n', b'{"k":%d}\n', b"no json %d\n", b"\xff\xfe %d\r\r\n", b' {"k":"\xe4","n":%d} \n')
    return [kinds[number % 5] % number for number in numbers]


def values(lines: list[bytes]) -> list[bytes]:
    return [line[: -2 if line.endswith(b"\r\n") else -1] for line in lines]


def read(pipeline: Pipeline) -> list[Message]:
    """All committed records, as soon as a broker that was stopped leads its partitions again."""

    def found() -> list[Message] | None:
        try:
            return read_committed(pipeline, raw(pipeline))
        except SurecountError:
            return None

    return wait_until(found, PATIENCE_S, "the topic to be readable") or []


def check_each_once(pipeline: Pipeline, lines: list[bytes]) -> None:
    """The topic holds each line once, and each partition in the order of the input."""
    found = read(pipeline)
    wanted = values(lines)
    sent, given = Counter(m.value() or b"" for m in found), Counter(wanted)
    assert not sent - given, "not in the input, or too often"
    assert not given - sent, "in the input, but not sent"
    place = {value: number for number, value in enumerate(wanted)}
    for partition in {m.partition() for m in found}:
        places = [place[m.value() or b""] for m in found if m.partition() == partition]
        assert places == sorted(places)


def position(pipeline: Pipeline, send_id: str) -> int:
    found = committed(pipeline.kafka, raw(pipeline), f"surecount.{pipeline.name}.send.{send_id}")
    return 0 if found is None else found.byte


@contextmanager
def sending(folder: Path, *arguments: str, stdin: int | None = subprocess.PIPE) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [*SEND, *arguments], cwd=folder, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "400"},
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """The exit code and all that was said. Standard input stays open until then."""
    code = process.wait(PATIENCE_S)
    assert process.stdout is not None and process.stderr is not None
    return code, (process.stdout.read() + process.stderr.read()).decode()


def wait_until_sent(pipeline: Pipeline, process: subprocess.Popen[bytes], size: int) -> None:
    """As soon as at least ``size`` bytes are committed, while the process goes on."""

    def look() -> bool:
        if position(pipeline, "x") >= size:
            return True
        assert process.poll() is None, ended(process)
        return False

    wait_until(look, PATIENCE_S, f"byte {size}", poll_s=0)


def feed(process: subprocess.Popen[bytes], lines: list[bytes], *, last: bool = False) -> None:
    assert process.stdin is not None
    process.stdin.write(b"".join(lines))
    process.stdin.flush()
    if last:
        process.stdin.close()


def test_killed_three_times(run: Running, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chances = random.Random(seed)
    lines = lines_of(range(500_000))
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b"\n \t\r\n" + b"".join(lines) + b"\r\n")
    size = file.stat().st_size

    @contextmanager
    def resuming(source: Path | str) -> Iterator[subprocess.Popen[bytes]]:
        resume = ["--resume"] if position(run.pipeline, "x") else []
        arguments = [str(run.file), str(source), "--id", "x", *resume, "--json"]
        with file.open("rb") as stdin, sending(tmp_path, *arguments, stdin=stdin.fileno()) as process:
            yield process

    # The same input may come another way.
    for source, part in ((file, (0.0, 0.2)), ("-", (0.3, 0.5)), (file, (0.6, 0.75))):
        moment, delay = int(size * chances.uniform(*part)), chances.uniform(0, 0.05)
        with resuming(source) as process:
            wait_until_sent(run.pipeline, process, moment)
            time.sleep(delay)  # so that it is anywhere in a transaction
            process.kill()
            code, said = ended(process)
            assert code == -signal.SIGKILL, said

    before = position(run.pipeline, "x")
    assert 0.6 * size < before < size
    with resuming("-") as process:
        code, said = ended(process)
    assert code == 0, said
    summary = json.loads(said)
    assert summary["resumed_from"] >= before
    assert summary["bytes"] == size - summary["resumed_from"]
    assert summary["position"] == position(run.pipeline, "x") == size
    check_each_once(run.pipeline, lines)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_and_resumed(run: Running, tmp_path: Path, number: signal.Signals, code: int) -> None:
    lines = lines_of(range(9))
    size = sum(map(len, lines[:5]))
    with sending(tmp_path, str(run.file), "--id", "x") as process:
        feed(process, lines[:5])
        wait_until_sent(run.pipeline, process, size)
        feed(process, [lines[5][:-1]])  # a line that has not ended yet is none
        process.send_signal(number)
        found, said = ended(process)
    assert found == code, said
    assert f"stopped at byte {size:,} of the input; --id x --resume goes on there" in said
    with sending(tmp_path, str(run.file), "--id", "x", "--resume") as process:
        feed(process, lines, last=True)
        found, said = ended(process)
    assert found == 0, said
    check_each_once(run.pipeline, lines)


def test_a_second_send_with_the_id_shuts_the_first_out(run: Running, tmp_path: Path) -> None:
    lines = lines_of(range(9))
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b"".join(lines))
    with sending(tmp_path, str(run.file), "--id", "x") as process:
        feed(process, lines[:5])
        wait_until_sent(run.pipeline, process, 1)
        with pytest.raises(SurecountError, match=r"were already sent with ID x"):
            send(run.pipeline, Options(file, id="x"))  # asks, and shuts nobody out
        feed(process, lines[5:6])
        wait_until_sent(run.pipeline, process, sum(map(len, lines[:6])))
        assert send(run.pipeline, Options(file, id="x", resume=True)).records == 3
        feed(process, lines[6:], last=True)
        code, said = ended(process)
    assert code == 1, said
    assert "another send with this ID took over" in said
    assert (tmp_path / "x.rest").read_bytes() == b"".join(lines[6:])
    check_each_once(run.pipeline, lines)


def test_what_was_sent_is_not_sent_again_unasked(run: Running, tmp_path: Path) -> None:
    lines = lines_of(range(10))
    file, other = tmp_path / "lines.jsonl", tmp_path / "other.jsonl"
    file.write_bytes(b"".join(lines))
    other.write_bytes(b"".join(lines_of(range(5, 30))))
    first = send(run.pipeline, Options(file))
    assert (first.records, first.resumed_from) == (10, None)
    with pytest.raises(SurecountError, match=r"bytes \(10 lines\) were already sent") as refused:
        send(run.pipeline, Options(file))
    assert refused.value.exit_code == 2
    assert "--resume" in refused.value.hint and "--again" in refused.value.hint
    assert "nothing left to send" in str(send(run.pipeline, Options(file, resume=True)))
    with pytest.raises(SurecountError, match="is another input"):
        send(run.pipeline, Options(other, id=first.id, resume=True))
    check_each_once(run.pipeline, lines)
    assert send(run.pipeline, Options(file, again=True)).records == 10
    assert Counter(m.value() for m in run.read(raw(run.pipeline))) == Counter(values(lines) * 2)
    # A file that grows is gone on with.
    with file.open("ab") as more:
        more.writelines(lines_of(range(10, 13)))
    grown = send(run.pipeline, Options(file, resume=True))
    assert (grown.records, grown.resumed_from, grown.position) == (3, first.position, file.stat().st_size)


def test_a_position_that_kafka_has_forgotten_is_not_begun_anew(run: Running, tmp_path: Path) -> None:
    lines = lines_of(range(5))
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b"".join(lines[:3]))
    assert send(run.pipeline, Options(file, id="x")).records == 3
    group = f"surecount.{run.pipeline.name}.send.x"
    admin = AdminClient(topics.client_config(run.pipeline.kafka))
    admin.delete_consumer_groups([group])[group].result(30)
    file.write_bytes(b"".join(lines))
    with pytest.raises(
        SurecountError, match=r"Kafka knows no position of ID x.*offsets\.retention\.minutes"
    ) as refused:
        send(run.pipeline, Options(file, id="x", resume=True))
    assert "leave out --resume" in refused.value.hint
    check_each_once(run.pipeline, lines[:3])


def test_again_that_is_killed_at_once_is_resumed_from_the_beginning(run: Running, tmp_path: Path) -> None:
    lines = lines_of(range(5))
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b"".join(lines))
    send(run.pipeline, Options(file, id="x"))
    with sending(tmp_path, str(run.file), "--id", "x", "--again") as process:
        wait_until(lambda: position(run.pipeline, "x") == 0, PATIENCE_S, "the new beginning")
        process.kill()
    assert send(run.pipeline, Options(file, id="x", resume=True)).records == 5
    assert Counter(m.value() for m in run.read(raw(run.pipeline))) == Counter(values(lines) * 2)


@pytest.mark.parametrize("fault", ["not taken", "answer lost", "stuck"])
def test_steps_whose_outcome_is_unknown(
    run: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    lines = lines_of(range(5))
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b"".join(lines))
    send(run.pipeline, Options(file))  # a new broker is slow to begin with
    monkeypatch.setattr(lines_module, "_CHUNK_LINES", 2)
    monkeypatch.setattr(transactions, "_STUCK_S", 1.0)
    take = Transactions._take
    released = threading.Event()
    taken = 0

    def faulty(self: Transactions, step: Callable[[float], object]) -> None:
        nonlocal taken
        taken += 1
        if taken != at:
            take(self, step)
        elif fault == "stuck":
            take(self, lambda _: released.wait(PATIENCE_S))
        else:
            if fault == "answer lost":
                take(self, step)
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    monkeypatch.setattr(Transactions, "_take", faulty)
    # The first step begins; after it come each transaction's offsets and commit.
    for at in (1, 4, 5):
        taken = 0
        assert send(run.pipeline, Options(file, id=f"x{at}")).records == 5
        assert taken > 7  # as many as there are without a fault
    released.set()
    assert Counter(m.value() for m in run.read(raw(run.pipeline))) == Counter(values(lines) * 4)


def test_a_line_that_the_topic_does_not_take(run: Running, tmp_path: Path) -> None:
    lines = lines_of(range(5))
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b"".join([*lines[:2], b"x" * (9 << 20) + b"\n", *lines[2:]]))
    size = sum(map(len, lines[:2]))
    for resume in (False, True):
        with pytest.raises(SurecountError, match=rf"line 3, at byte {size}, makes a record of more than") as refused:
            send(run.pipeline, Options(file, id="x", resume=resume))
        assert refused.value.exit_code == 1
    assert list(tmp_path.glob("*.rest")) == []  # the file is still there
    with sending(tmp_path, str(run.file), "--id", "y") as process:
        feed(process, [file.read_bytes()], last=True)
        code, said = ended(process)
    assert code == 1, said
    rest = tmp_path / "y.rest"
    assert rest.read_bytes() == file.read_bytes()[size:]
    assert f"surecount send PIPELINE y.rest --id y --resume --starts-at {size}" in said
    # What the hint says, when the line is gone.
    rest.write_bytes(b"".join(lines[2:]))
    assert send(run.pipeline, Options(rest, id="y", resume=True, starts_at=size)).records == 3
    file.write_bytes(b"".join(lines))
    assert send(run.pipeline, Options(file, id="x", resume=True)).records == 3
    assert Counter(m.value() for m in run.read(raw(run.pipeline))) == Counter(values(lines) * 2)


def test_the_largest_line_that_is_let_through_fits(run: Running, tmp_path: Path) -> None:
    limit = topics.describe_raw(run.pipeline, run.pipeline.pathways[0])[raw(run.pipeline)].max_message_bytes
    noise = random.Random(0).randbytes(limit).translate(None, b"\r\n")  # so that compression does not help
    whole = (noise + noise)[: limit - 100]
    file = tmp_path / "lines.jsonl"
    file.write_bytes(whole + b"\r\n" + whole[:1] + whole + b"\n")
    with pytest.raises(SurecountError, match="line 2, at byte"):
        send(run.pipeline, Options(file))
    assert [m.value() for m in run.read(raw(run.pipeline))] == [whole]


def test_keys_and_topics(run: Running, tmp_path: Path) -> None:
    lines = lines_of(range(50))
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b"".join(lines))
    summary = send(run.pipeline, Options(file, topic=run.pipeline.source.topics[1], key="k"))
    assert summary.without_key == 30
    found = {m.value(): m.key() for m in run.read(run.pipeline.source.topics[1])}
    assert found == {
        value: re.sub(rb"\D", b"", value) if number % 5 < 2 else None for number, value in enumerate(values(lines))
    }
    assert run.read(raw(run.pipeline)) == []


def test_a_missing_topic(make: Callable[..., Running], tmp_path: Path) -> None:
    missing = make(PIPELINE, sources=[])
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b"a line\n")
    with pytest.raises(SurecountError, match=r"does not exist at .*\n.*kafka-topics.sh .* --create --topic"):
        send(missing.pipeline, Options(file))


# ------------------------------------------------------------------------------ a broker of its own


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose broker may be stopped without harm to other tests."""
    running = Stack(tmp_path_factory.mktemp("own"), is_owned=True)
    running.up(taskmanagers=0, kafka_port=0, flink_port=0)
    try:
        _wake(running)
        yield running
    finally:
        running.down(purge=True)


def pipeline_on(stack: Stack, name: str, file: Path) -> Pipeline:
    text = PIPELINE.replace("NAME", name)
    file.write_text(f'name = "{name}"\n[kafka]\nbootstrap_servers = "{stack.bootstrap_servers}"\n{text}')
    pipeline = config.load(file)
    topics.ensure_source(pipeline, 3)
    return pipeline


def _wake(stack: Stack) -> None:
    """A new broker makes its coordinators' topics, for which a test's patience may not suffice."""
    file = stack.directory / "awake.toml"
    send(pipeline_on(stack, "awake", file), Options(file))


@pytest.fixture
def alone(own: Stack, tmp_path: Path, request: pytest.FixtureRequest) -> Running:
    """A pipeline on that broker."""
    file = tmp_path / "alone.toml"
    return Running(pipeline_on(own, re.sub(r"[^a-z]", "", request.node.name)[:40], file), file, own)


@contextmanager
def standing_still(stack: Stack) -> Iterator[None]:
    """The broker does not answer, as it does not in an outage."""
    broker = stack.processes()["kafka-1"]
    os.kill(broker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker, signal.SIGCONT)


def test_gives_up_on_standard_input(alone: Running, tmp_path: Path) -> None:
    lines = lines_of(range(10))
    size = sum(map(len, lines[:5]))
    arguments = [str(alone.file), "--id", "x", "--give-up-after", "5 s"]
    with sending(tmp_path, *arguments) as process:
        feed(process, lines[:5])
        wait_until_sent(alone.pipeline, process, size)
        with standing_still(alone.stack):
            feed(process, lines[5:], last=True)
            code, said = ended(process)
    assert code == 1, said
    assert "gave up after 5 s" in said
    hint = re.search(r"surecount send PIPELINE (\S+) --id x --resume --starts-at (\d+) sends it", said)
    assert hint is not None and int(hint[2]) == size, said
    rest = tmp_path / hint[1]
    assert rest.read_bytes() == b"".join(lines[5:])
    assert Counter(values(lines[:5])) == Counter(m.value() for m in read(alone.pipeline))
    assert send(alone.pipeline, Options(rest, id="x", resume=True, starts_at=size)).records == 5
    check_each_once(alone.pipeline, lines)


def test_no_broker_from_the_beginning(alone: Running, tmp_path: Path) -> None:
    lines = lines_of(range(10))
    with standing_still(alone.stack), sending(tmp_path, str(alone.file), "--id", "y") as process:
        feed(process, lines, last=True)
        code, said = ended(process)
    assert code == 1, said
    assert "no Kafka broker answers" in said
    hint = re.search(r"surecount send PIPELINE (\S+) --id y sends it", said)
    assert hint is not None, said
    assert send(alone.pipeline, Options(tmp_path / hint[1], id="y")).records == 10
    check_each_once(alone.pipeline, lines)


def test_a_broker_that_comes_back_is_asked_again(alone: Running) -> None:
    """After one outage in three its controller counts it as lost for some milliseconds."""
    log = alone.stack.directory / "logs" / "kafka-1.log"
    lost = log.read_text().count("Fencing broker 1")
    for _ in range(4):
        assert _asked_through_an_outage(alone) == {1}
        if log.read_text().count("Fencing broker 1") > lost:
            break


def _asked_through_an_outage(run: Running) -> set[int]:
    """How many brokers there are, as one client after another hears it until a second after the outage."""
    back = threading.Event()

    def brokers() -> set[int]:
        found: set[int] = set()
        end = None
        while end is None or time.monotonic() < end:
            found.add(len(topics.Admin(run.pipeline.kafka).metadata().brokers))
            if end is None and back.is_set():
                end = time.monotonic() + 1
        return found

    with ThreadPoolExecutor(8) as pool:
        with standing_still(run.stack):
            # Longer than the broker's session, which `surecount up` sets to 6 s.
            time.sleep(7)
            answers = [pool.submit(brokers) for _ in range(8)]
        back.set()
        return set().union(*(answer.result(PATIENCE_S) for answer in answers))


def test_a_second_signal_does_not_wait(alone: Running, tmp_path: Path) -> None:
    lines = lines_of(range(2))
    with sending(tmp_path, str(alone.file), "--id", "x", "--give-up-after", "10 min") as process:
        feed(process, lines[:1])
        wait_until_sent(alone.pipeline, process, 1)
        with standing_still(alone.stack):
            feed(process, lines[1:])
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            code, said = ended(process)
    assert code == 128 + signal.SIGTERM, said
    assert said.strip() == "interrupted"


def test_gives_up_on_a_file(alone: Running, tmp_path: Path) -> None:
    lines = lines_of(range(400_000))
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b"".join(lines))
    (tmp_path / "lines.jsonl.rest").write_text("precious")
    with sending(tmp_path, str(alone.file), str(file), "--id", "x", "--give-up-after", "5 s") as process:
        wait_until_sent(alone.pipeline, process, 1)
        with standing_still(alone.stack):
            code, said = ended(process)
    assert code == 1, said
    found = re.search(r"sent: the first ([\d,]+) bytes of the input \(([\d,]+) lines\)", said)
    assert found is not None, said
    at, line = (int(number.replace(",", "")) for number in found.groups())
    assert at == sum(map(len, lines[:line])) < file.stat().st_size
    assert (tmp_path / "lines.jsonl.rest").read_text() == "precious"
    assert (tmp_path / "lines.jsonl.rest.2").read_bytes() == file.read_bytes()[at:]
    sent = {m.value() for m in read(alone.pipeline)}
    after = position(alone.pipeline, "x")
    # Kafka may have committed what it was told to commit, but then this is said.
    assert after == at or "Kafka has not said whether" in said
    assert sent == set(values(lines[: line if after == at else line + 20_000]))
    assert send(alone.pipeline, Options(file, id="x", resume=True)).position == file.stat().st_size
    check_each_once(alone.pipeline, lines)


def test_a_broker_that_dies_and_comes_back(alone: Running, tmp_path: Path) -> None:
    lines = lines_of(range(300_000))
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b"".join(lines))
    with sending(tmp_path, str(alone.file), str(file), "--id", "x") as process:
        wait_until_sent(alone.pipeline, process, 1)
        os.kill(alone.stack.processes()["kafka-1"], signal.SIGKILL)
        assert process.poll() is None
        code, said = ended(process)
    assert code == 0, said
    assert said.startswith("300,000 records in ")
    check_each_once(alone.pipeline, lines)
