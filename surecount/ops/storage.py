"""The folders in which Flink keeps snapshots, wherever they are: a thin edge over pyarrow's file systems."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
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
        """The names of the files in this folder, sorted, without drafts; none where it does not exist."""
        names = (entry.base_name for entry in self._entries() if entry.type == fs.FileType.File)
        return sorted(name for name in names if not name.startswith("."))

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return name in self.files()

    def read(self, name: str) -> bytes:
        """The content of a file in this folder."""
        system, path = self._system()
        try:
            with system.open_input_stream(f"{path}/{name}") as stream:
                return bytes(stream.read())
        except (OSError, ArrowException) as error:
            raise self._unreachable(error) from error

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole: a reader sees it complete, or not at all. Where it returns, the file is on disk."""
        self._put(name, content, only_new=False)

    def create(self, name: str, content: bytes) -> bool:
        """The same, unless there is a file of that name: False, and it stays as it is.

        Of several who create the same name at once exactly one gets True on a file system of this machine, or one that
        is mounted with hard links. HDFS refuses to rename onto a file that exists. Object stores have no such call
        here: there the file is looked for before, and read again afterwards, so two who write within the same moment
        may both get True.
        """
        return self._put(name, content, only_new=True)

    def _put(self, name: str, content: bytes, *, only_new: bool) -> bool:
        system, path = self._system()
        draft = _draft(name)
        try:
            system.create_dir(path)
            if isinstance(system, fs.LocalFileSystem):
                return _put_locally(Path(path), draft, name, content, only_new=only_new)
            if only_new and _exists(system, f"{path}/{name}"):
                return False
            with system.open_output_stream(f"{path}/{draft}") as stream:
                stream.write(content)
            try:
                system.move(f"{path}/{draft}", f"{path}/{name}")
            except (OSError, ArrowException):
                if only_new and _exists(system, f"{path}/{name}"):
                    system.delete_file(f"{path}/{draft}")
                    return False
                raise
        except (OSError, ArrowException) as error:
            raise self._unreachable(error) from error
        return not only_new or self.read(name) == content

    def copy(self, to: Folder, *, private: bool = False) -> None:
        """Copy the files of this folder, and of those in it, into another one, each whole or not at all; ``_metadata``,
        by which a snapshot is whole, comes last. ``private`` ones are on this machine for this user only."""
        for folder in self.folders():
            folder.copy(to.folder(folder.name), private=private)
        for name in sorted(self.files(), key=lambda name: name == "_metadata"):
            self._copy(name, to, private=private)

    def _copy(self, name: str, to: Folder, *, private: bool) -> None:
        system, path = self._system()
        target, there = to._system()
        draft = f"{there}/{_draft(name)}"
        try:
            target.create_dir(there)
            if private and isinstance(target, fs.LocalFileSystem):
                os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            fs.copy_files(f"{path}/{name}", draft, source_filesystem=system, destination_filesystem=target)
            if isinstance(target, fs.LocalFileSystem):
                _sync(Path(draft))
            target.move(draft, f"{there}/{name}")
        except (OSError, ArrowException) as error:
            with suppress(OSError, ArrowException):
                target.delete_file(draft)
            raise self._unreachable(error) from error

    def size(self) -> int:
        """Bytes of all files in this folder and in those in it."""
        return sum(entry.size or 0 for entry in self._entries(recursive=True))

    def remove(self) -> None:
        """Remove this folder with all that is in it. A snapshot is no whole one from the first moment on, so what a
        kill leaves of it is never taken for one."""
        system, path = self._system()
        entries = self._entries(recursive=True)
        try:
            for entry in entries:
                if entry.base_name == "_metadata":
                    system.delete_file(entry.path)
            system.delete_dir(path)
        except FileNotFoundError:  # Flink, or another command, was quicker
            pass
        except (OSError, ArrowException) as error:
            raise self._unreachable(error) from error

    def _entries(self, *, recursive: bool = False) -> list[Any]:
        system, path = self._system()
        try:
            return list(system.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=recursive)))
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


def _exists(system: Any, path: str) -> bool:
    return bool(system.get_file_info(path).type != fs.FileType.NotFound)


def _put_locally(folder: Path, draft: str, name: str, content: bytes, *, only_new: bool) -> bool:
    """Write a draft to disk, and give it its name."""
    file = os.open(folder / draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if only_new:
            _link(folder / draft, folder / name)
        else:
            (folder / draft).replace(folder / name)
    except FileExistsError:
        return False
    finally:
        (folder / draft).unlink(missing_ok=True)
    _sync(folder)
    return True


def _draft(name: str) -> str:
    """What a file is called until it is whole; :meth:`Folder.files` passes over it."""
    return f".{name}.{uuid4().hex[:8]}"


def _sync(path: Path) -> None:
    """Have what is known of a file or folder on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(draft: Path, target: Path) -> None:
    """Give a file a name that no other has. Raises FileExistsError."""
    try:
        os.link(draft, target)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links: as exclusive as looking before is.
        if target.exists():
            raise FileExistsError(target) from None
        draft.replace(target)
