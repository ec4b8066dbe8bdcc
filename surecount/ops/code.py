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
from surecount.config import Pipeline
from surecount.errors import SurecountError
from udfs.own import resolve

PROJECT = Path(__file__).resolve().parents[2]
_OURS = (
    *("udfs/*.py", "jobs/*.py", "surecount/__init__.py", "surecount/errors.py"),
    *("surecount/config/*.py", "surecount/kafka/*.py"),
)


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


def check_decode(pipeline_file: Path, pipeline: Pipeline) -> None:
    """Import a pipeline's own decode function, if it has one, as the workers will; every command that needs it calls
    this first.

    A module beside the pipeline file goes before others of its name. Raises SurecountError that says what failed.
    """
    decode = pipeline.source.decode
    if decode is None:
        return
    folder = pipeline_file.resolve().parent
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    udfs.__path__ = extend_path(udfs.__path__, udfs.__name__)
    importlib.invalidate_caches()
    setting = f"{pipeline_file}: source.decode = {decode!r}"
    try:
        function = resolve(decode)
    except Exception as error:  # a user's module may raise anything
        raise SurecountError(
            f"{setting}: {type(error).__name__}: {error}",
            "it is package.module:function, beside the pipeline file or installed on the workers; "
            "a folder needs an __init__.py",
        ) from error
    if not callable(function):
        raise SurecountError(f"{setting} is no function")
    _check_place(setting, folder, decode)


def _check_place(setting: str, folder: Path, decode: str) -> None:
    """Raise where a module that is loaded already goes before the user's of its name, as it does not on the workers."""
    module = decode.partition(":")[0]
    path = folder.joinpath(*module.split("."))
    own = next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
    loaded = getattr(sys.modules[module], "__file__", None)
    if own is not None and (loaded is None or not own.samefile(loaded)):
        raise SurecountError(f"{setting}: {module} is also {loaded or 'built in'}", "give your module another name")
