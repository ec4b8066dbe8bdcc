"""The folders in which Flink keeps snapshots, wherever they are: a thin edge over pyarrow's file systems."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from pyarrow import ArrowException, fs

from surecount.errors import SurecountError


def uri_of(path: str) -> str:
    """The URI of a folder in one form: Flink writes ``file:/data`` for ``file:///data``, and people write ``/data``."""
    rest = path.rstrip("/")
    if rest.startswith("file:") and not rest.startswith("file://"):
        rest = rest.removeprefix("file:")
    return f"file://{rest}" if rest.startswith("/") else rest


@dataclass(frozen=True)
class Folder:
    """A folder by its URI, such as ``file:///data/savepoints`` or ``s3://bucket/savepoints``.

    What cannot be reached raises SurecountError.
    """

    uri: str

    @property
    def name(self) -> str:
        """The last part of the URI."""
        return self.uri.rstrip("/").rpartition("/")[2]

    def folder(self, name: str) -> Folder:
        """A folder in this one."""
        return Folder(f"{self.uri.rstrip('/')}/{name}")

    def folders(self) -> list[Folder]:
        """The folders in this one; none where it does not exist."""
        return [self.folder(entry.base_name) for entry in self._entries() if entry.type == fs.FileType.Directory]

    def files(self) -> list[str]:
        """The names of the files in this folder, sorted; none where it does not exist."""
        return sorted(entry.base_name for entry in self._entries() if entry.type == fs.FileType.File)

    def read(self, name: str) -> bytes:
        """The content of a file in this folder."""
        system, path = self._system()
        try:
            with system.open_input_stream(f"{path}/{name}") as stream:
                return bytes(stream.read())
        except (OSError, ArrowException) as error:
            raise self._unreachable(error) from error

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole: a reader sees it complete, or not at all."""
        system, path = self._system()
        draft = f"{path}/.{name}.{uuid4().hex[:8]}"
        try:
            system.create_dir(path)
            with system.open_output_stream(draft) as stream:
                stream.write(content)
            system.move(draft, f"{path}/{name}")
        except (OSError, ArrowException) as error:
            raise self._unreachable(error) from error

    def copy(self, to: Folder) -> None:
        """Copy the files of this folder, and of those in it, into another one; ``_metadata``, by which a snapshot is
        whole, comes last."""
        for folder in self.folders():
            folder.copy(to.folder(folder.name))
        for name in sorted(self.files(), key=lambda name: name == "_metadata"):
            self._copy(name, to)

    def _copy(self, name: str, to: Folder) -> None:
        system, path = self._system()
        target, there = to._system()
        try:
            target.create_dir(there)
            fs.copy_files(f"{path}/{name}", f"{there}/{name}", source_filesystem=system, destination_filesystem=target)
        except (OSError, ArrowException) as error:
            raise self._unreachable(error) from error

    def _entries(self) -> list[Any]:
        system, path = self._system()
        try:
            return list(system.get_file_info(fs.FileSelector(path, allow_not_found=True)))
        except (OSError, ArrowException) as error:
            raise self._unreachable(error) from error

    def _system(self) -> tuple[Any, str]:
        try:
            system, path = fs.FileSystem.from_uri(self.uri)
        except (OSError, ArrowException) as error:
            raise self._unreachable(error) from error
        return system, path

    def _unreachable(self, error: Exception) -> SurecountError:
        return SurecountError(
            f"{self.uri} cannot be reached from here: {error}",
            "the run ledger is kept beside the snapshots, so commands need that folder too",
        )
