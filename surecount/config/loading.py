"""Reading pipeline files, with errors that say what would be right."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from surecount.config.names import PipelineName
from surecount.config.pipeline import Pipeline
from surecount.errors import SurecountError


def load(path: Path) -> Pipeline:
    """Read and validate a pipeline file; raises SurecountError that names file, field and value.

    It is TOML, or where its name ends with ``.json`` the same as JSON, which programs can write.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise SurecountError(
            f"{path}: {error.strerror or error}", "`surecount new NAME` writes a pipeline file to start from"
        ) from error
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise SurecountError(f"{path}: not valid {kind}: {error}") from error
    return parse(data, str(path))


def parse(data: dict[str, Any], origin: str) -> Pipeline:
    """Validate a pipeline that was read from ``origin``."""
    try:
        return Pipeline.model_validate(data)
    except ValidationError as error:
        raise SurecountError("\n".join(_explain(origin, e) for e in _relevant(error))) from error


# Parts of an error's location that name a branch of a union, and no setting.
_BRANCHES = ("KeyField", "SumField", "EventTimeField", "constrained-", "function-", "list[", "literal[")
_SHAPES = ("string_type", "list_type", "model_type")


def _relevant(error: ValidationError) -> list[Any]:
    """One entry a field. Of a union's branches the one counts that got deepest into the value, and then
    one that takes a value of such a shape."""
    entries: list[Any] = [
        {**entry, "loc": tuple(part for part in entry["loc"] if not str(part).startswith(_BRANCHES))}
        for entry in error.errors(include_url=False)
    ]
    chosen: dict[tuple[Any, ...], Any] = {}
    for entry in entries:
        location = entry["loc"]
        if any(len(e["loc"]) > len(location) and e["loc"][: len(location)] == location for e in entries):
            continue
        other = chosen.setdefault(location, entry)
        if other["type"] in _SHAPES and entry["type"] not in _SHAPES:
            chosen[location] = entry
    return list(chosen.values())


def _explain(origin: str, entry: Any) -> str:
    where = ""
    for part in entry["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else str(part)
    message = entry["msg"].removeprefix("Value error, ")
    match entry["type"]:
        case "missing":
            return f"{origin}: {where} is missing"
        case "extra_forbidden":
            return f"{origin}: {where} is no setting; `surecount check --schema` lists them all"
        case "model_type":
            message = "Input should be a table"
        case "value_error":
            return f"{origin}: {where + ': ' if where else ''}{message}"
    return f"{origin}: {where}{_given(entry)}: {message}"


def _given(entry: Any) -> str:
    """What a setting was given, where that cannot be a secret, or hold one: client properties may be anything."""
    value, where = entry["input"], entry["loc"]
    if value and isinstance(value, dict | list):
        return " is a table" if isinstance(value, dict) else " is an array"
    return "" if where == ("kafka",) or {"properties", "security"} & set(where) else f" = {value!r}"


def check_name(name: str) -> None:
    """Raise SurecountError where a pipeline cannot have that name."""
    try:
        TypeAdapter(PipelineName).validate_python(name)
    except ValidationError as error:
        raise SurecountError(
            f"{name!r} is no pipeline name", "lower-case letters, digits, - and _, a letter first"
        ) from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a pipeline file, for editors."""
    schema = Pipeline.model_json_schema()
    # The output topics have defaults that depend on the name, which JSON Schema can't say.
    schema["required"] = [name for name in schema["required"] if name != "topics"]
    schema["$defs"]["Topics"].pop("required", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "surecount pipeline",
        **schema,
    }
