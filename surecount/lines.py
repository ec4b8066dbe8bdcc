"""Lines of an input, the records they make, and how far the input is read.

Memory is bounded, whatever the lines are like and however slowly they come.
"""

from __future__ import annotations

import json
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path

from surecount.errors import SurecountError

HEAD_BYTES = 64 << 10

_BLOCK = 256 << 10
_POLL_S = 0.1
# A chunk is one transaction: few enough records to be sent once more, old enough to be worth a commit.
_CHUNK_LINES = 20_000
_CHUNK_BYTES = 8 << 20
_CHUNK_S = 1.0
_BLANK = b" \t\r\n"
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


@dataclass(frozen=True)
class Head:
    """The first bytes of an input, by which another input is told apart.

    Without ``data`` only what they hash to is known, and it stays as it is.
    """

    size: int
    digest: str
    data: bytes | None = None

    @classmethod
    def of(cls, data: bytes) -> Head:
        return cls(len(data), _digest(data), data)

    def followed_by(self, lines: list[bytes]) -> Head:
        if self.data is None or self.size >= HEAD_BYTES:
            return self
        return Head.of((self.data + b"".join(lines))[:HEAD_BYTES])


@dataclass(frozen=True)
class Position:
    """How far an input is sent: so many bytes, which are so many lines."""

    byte: int = 0
    line: int = 0
    head: Head = field(default_factory=lambda: Head.of(b""))

    def after(self, lines: list[bytes]) -> Position:
        """The position behind further lines."""
        return Position(self.byte + sum(map(len, lines)), self.line + len(lines), self.head.followed_by(lines))

    @property
    def metadata(self) -> str:
        """What a committed offset keeps beside the byte."""
        return json.dumps({"line": self.line, "head": self.head.size, "blake2b": self.head.digest})

    @classmethod
    def parse(cls, byte: int, metadata: str) -> Position:
        """The position that a committed offset holds."""
        try:
            content = json.loads(metadata)
            line, head = int(content["line"]), int(content["head"])
            # A head of nothing would be that of any input.
            if not (0 <= line <= byte and min(byte, 1) <= head <= min(byte, HEAD_BYTES)):
                raise ValueError(f"{line} lines and a head of {head} bytes")
            return cls(byte, line, Head(head, str(content["blake2b"])))
        except (ValueError, TypeError, KeyError) as error:
            raise SurecountError(
                f"the committed position {byte} was not written by `surecount send`: {metadata!r}",
                "choose another --id",
            ) from error


@dataclass
class Chunk:
    """Whole lines of an input from ``start`` on, and the records they make, as (key, value).

    ``too_large`` is as much as was read of a line behind them that can't be sent; nothing comes after it.
    """

    start: Position
    lines: list[bytes] = field(default_factory=list)
    records: list[tuple[bytes | None, bytes]] = field(default_factory=list)
    size: int = 0
    blank: int = 0
    without_key: int = 0
    too_large: bytes = b""

    @property
    def end(self) -> Position:
        return self.start.after(self.lines)

    @property
    def is_full(self) -> bool:
        return len(self.lines) >= _CHUNK_LINES or self.size >= _CHUNK_BYTES


class Input:
    """A file or standard input, read once; only a file has a ``size``."""

    def __init__(self, name: str, fd: int, size: int | None) -> None:
        self._name, self._fd, self.size = name, fd, size
        self._peeked = b""

    def lines(self, longest: int) -> Iterator[bytes | None]:
        """Each line with its end, as it comes; None where none came for a moment.

        A line of more than ``longest`` bytes comes in pieces, as soon as that is known.
        """
        begun = b""
        for block in self._blocks():
            if block is None:
                yield None
                continue
            *whole, begun = (begun + block).split(b"\n")
            for line in whole:
                yield line + b"\n"
            if len(begun) > longest:
                yield begun
                begun = b""
        if begun:
            yield begun

    def _blocks(self) -> Iterator[bytes | None]:
        if self._peeked:
            yield self._peeked
        while True:
            if not select.select([self._fd], [], [], _POLL_S)[0]:
                yield None
            elif block := os.read(self._fd, _BLOCK):
                yield block
            else:
                return

    def pass_over(self, known: Position, starts_at: int) -> Position:
        """Read on to a committed position, and return it.

        The input begins at byte ``starts_at`` of what was sent. Raises SurecountError where it is another.
        """
        ahead = known.byte - starts_at
        if ahead < 0:
            raise SurecountError(
                f"--starts-at {starts_at} leaves a gap: only {known.byte} bytes were sent", "mend --starts-at"
            )
        if self.size is not None and self.size < ahead:
            raise self._shorter(known)
        seen = b""
        if not starts_at:
            seen = self._read(known.head.size, known)
            if Head.of(seen).digest != known.head.digest:
                raise SurecountError(
                    f"{self._name} is another input: its first {len(seen):,} bytes are not those that were sent",
                    "resume with the input that was sent, or choose another --id",
                )
        last = seen[-1:]
        if ahead > len(seen):
            self._skip(ahead - len(seen) - 1, known)
            last = self._read(1, known)
        if last not in (b"", b"\n"):
            self._peeked = os.read(self._fd, _BLOCK)
            if not (self._peeked or b"\n").startswith((b"\n", b"\r\n")):
                raise SurecountError(
                    f"{self._name}, line {known.line:,} was sent when it ended at byte {known.byte:,}, and has grown",
                    "the record that was sent is a part of it; send what comes after that line with another --id",
                )
        return known if starts_at else replace(known, head=Head.of(seen))

    def _read(self, count: int, known: Position) -> bytes:
        data = b""
        while len(data) < count:
            block = os.read(self._fd, count - len(data))
            if not block:
                raise self._shorter(known)
            data += block
        return data

    def _skip(self, count: int, known: Position) -> None:
        if self.size is not None:
            os.lseek(self._fd, count, os.SEEK_CUR)
            return
        while count:
            count -= len(self._read(min(count, _BLOCK), known))

    def _shorter(self, known: Position) -> SurecountError:
        return SurecountError(
            f"{self._name} ends before byte {known.byte:,}, up to which it was sent",
            "resume with the whole input that was sent, or choose another --id",
        )


@contextmanager
def opened(file: Path | None) -> Iterator[Input]:
    """A file, or standard input where there is none; raises SurecountError."""
    if file is None:
        yield Input("standard input", sys.stdin.fileno(), None)
        return
    try:
        fd = os.open(file, os.O_RDONLY)
    except OSError as error:
        raise SurecountError(f"{file}: {error.strerror}") from error
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise SurecountError(f"{file} is no regular file", "pipe it into standard input, with - for FILE")
        yield Input(str(file), fd, found.st_size)
    finally:
        os.close(fd)


def value_of(line: bytes) -> bytes:
    """A line without its end."""
    return line.removesuffix(b"\n").removesuffix(b"\r") if line.endswith(b"\n") else line


def key_of(value: bytes, path: tuple[str, ...]) -> bytes | None:
    """The string or number at ``path`` of a JSON object, as text; None where there is none."""
    try:
        found = _DECODER.decode(value.decode())
        for name in path:
            found = found[name] if isinstance(found, dict) else None
        return found.encode() if isinstance(found, str) else None
    except (ValueError, KeyError, RecursionError):
        return None


def chunks(
    lines: Iterator[bytes | None],
    start: Position,
    *,
    key: tuple[str, ...] | None,
    largest: int,
    stopped: Callable[[], bool],
) -> Iterator[Chunk]:
    """Cut lines into chunks, each full or about a second old, until they end or it is ``stopped``.

    A record of more than ``largest`` bytes ends them, too.
    """
    chunk = Chunk(start)
    due = 0.0
    for line in lines:
        if line is not None:
            value = value_of(line)
            found = key_of(value, key) if key else None
            # Blank or not: a piece of a line is no line.
            if len(value) + len(found or b"") > largest:
                chunk.too_large = line
                yield chunk
                return
            if value.strip(_BLANK):
                chunk.records.append((found, value))
                chunk.without_key += key is not None and found is None
            else:
                chunk.blank += 1
            if not chunk.lines:
                due = time.monotonic() + _CHUNK_S
            chunk.lines.append(line)
            chunk.size += len(line)
        if chunk.lines and (chunk.is_full or stopped() or time.monotonic() >= due):
            yield chunk
            chunk = Chunk(chunk.end)
        if stopped():
            return
    if chunk.lines:
        yield chunk
