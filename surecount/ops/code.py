"""The Python code of a job as one folder that Flink ships to its workers: ours, and the user's own."""

from __future__ import annotations

import hashlib
import importlib
import io
import shutil
import sys
import zipfile
from pathlib import Path
from pkgutil import extend_path

import udfs
from surecount.errors import SurecountError
from udfs.decode import resolve

PROJECT = Path(__file__).resolve().parents[2]
_OURS = ("udfs/*.py", "jobs/*.py", "surecount/__init__.py", "surecount/errors.py", "surecount/config/*.py")


def package(target: Path, pipeline_file: Path, decode: str | None) -> None:
    """Fill the folder ``target``. With ``decode`` it also holds the module or package that the function is in,
    where that stands beside the pipeline file; raises SurecountError where a name is taken.
    """
    files = {str(p.relative_to(PROJECT)): p for pattern in _OURS for p in PROJECT.glob(pattern)}
    if decode is not None:
        for name, path in beside(pipeline_file.resolve().parent, decode).items():
            if name in files and files[name] != path and path.name != "__init__.py":
                raise SurecountError(f"{path}: {name} is a module of surecount's own", "give it another name")
            files.setdefault(name, path)
    # A folder, not a zip: Flink 2.3's client fails on unpacking zips (commons-io of two versions).
    for name, path in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name)


def hash_of_code(folder: Path) -> str:
    """A short stable hash of a packaged folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def pack(folder: Path) -> bytes:
    """A packaged folder as one zip archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*.py")):
            archive.write(path, path.relative_to(folder))
    return content.getvalue()


def unpack(archive: bytes, target: Path) -> None:
    """Fill the folder ``target`` from what ``pack`` made."""
    zipfile.ZipFile(io.BytesIO(archive)).extractall(target)


def beside(folder: Path, decode: str) -> dict[str, Path]:
    """The module or package of a decode function, where it stands in the pipeline file's folder, by relative path."""
    top = decode.partition(":")[0].partition(".")[0]
    module = folder / f"{top}.py"
    found = [module] if module.is_file() else (folder / top).rglob("*.py")
    return {str(path.relative_to(folder)): path for path in found}


def check_decode(pipeline_file: Path, decode: str) -> None:
    """Import the user's function as the workers will; raises SurecountError that says what failed."""
    folder = str(pipeline_file.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    udfs.__path__ = extend_path(udfs.__path__, udfs.__name__)
    importlib.invalidate_caches()
    try:
        function = resolve(decode)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise SurecountError(
            f"{pipeline_file}: source.decode = {decode!r}: {error}",
            "it is package.module:function, beside the pipeline file or installed on the workers; "
            "a folder needs an __init__.py",
        ) from error
    if not callable(function):
        raise SurecountError(f"{pipeline_file}: source.decode = {decode!r} is no function")
