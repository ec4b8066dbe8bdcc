"""What `surecount check` and `surecount new` write."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import udfs
from surecount import config, plan, templates
from surecount.config import Pipeline
from surecount.errors import SurecountError
from surecount.ops.code import check_decode, package


def test_the_plan_names_topics_aggregates_and_costs() -> None:
    text = "\n".join(plan.lines(plan.plan(config.load(Path("examples/shop.toml")))))
    for part in ("shop.orders", "shop.rejects", "per_country", "tax (decimal, scale 2)", "20 s", "5 s"):
        assert part in text


def with_decode(file: Path, decode: str) -> Pipeline:
    """The pipeline of a file from the templates, with a function of the user's own."""
    content = config.load(file).model_dump(mode="json")
    content["source"]["decode"] = decode
    return config.parse(content, str(file))


@pytest.fixture(autouse=True)
def imports_as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(udfs, "__path__", [*udfs.__path__])
    yield
    for name, module in [*sys.modules.items()]:
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("function", ["decode", "decode_fast"])
def test_the_templates_udf_is_found_shipped_and_works(tmp_path: Path, function: str) -> None:
    file, _ = templates.write(tmp_path, "csv-one")
    path = f"udfs.csv_one:{function}"
    check_decode(file, with_decode(file, path))
    package(tmp_path / "code", file, path)
    program = f"""
from udfs.decode import Batch, Decoder
from udfs.spec import *
import numpy as np
import pyarrow as pa
a = Aggregate("a", (Field("customer", "string"),), (Field("amount", "int"),), 1000)
spec = Spec((a,), EventTime("ts"), 0, 1 << 20, 4, {path!r})
columns, rejected = Decoder(spec)(Batch(pa.array([b"5,ada,7", b"x,ada,7", b"6,bob,8"], pa.binary()), np.full(3, 9)))
print(sorted(zip(columns.time_ms.tolist(), columns.fields["amount"].to_pylist())), [r.reason for r in rejected])
"""
    # As on a worker: nothing but the shipped folder on the path.
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(tmp_path / "code")},
        cwd=tmp_path / "code",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "[(5, 7), (6, 8)] ['decode_failed']", done.stderr


@pytest.mark.parametrize("path", ["udfs.nowhere:decode", "udfs.decode:nothing", "nowhere:decode", "udfs.decode:WIDE"])
def test_a_decode_function_that_is_not_there_is_a_clear_error(tmp_path: Path, path: str) -> None:
    file, _ = templates.write(tmp_path, "x")
    with pytest.raises(SurecountError, match=r"source\.decode"):
        check_decode(file, with_decode(file, path))


@pytest.mark.parametrize("name", ["typing", "string", "pydantic"])
def test_a_module_that_another_one_hides_is_refused(tmp_path: Path, name: str) -> None:
    file, _ = templates.write(tmp_path, "x")
    (tmp_path / f"{name}.py").write_text("def capwords(value): pass\ncast = BaseModel = capwords\n")
    function = {"typing": "cast", "string": "capwords", "pydantic": "BaseModel"}[name]
    with pytest.raises(SurecountError, match=f"{name} is also .*{name}"):
        check_decode(file, with_decode(file, f"{name}:{function}"))


def test_a_module_that_fails_is_a_clear_error(tmp_path: Path) -> None:
    file, _ = templates.write(tmp_path, "x")
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(SurecountError, match="broken:decode': ZeroDivisionError: division by zero"):
        check_decode(file, with_decode(file, "broken:decode"))


def test_a_users_module_cannot_replace_ours(tmp_path: Path) -> None:
    file, _ = templates.write(tmp_path, "mine")
    (tmp_path / "udfs" / "decode.py").write_text("")
    with pytest.raises(SurecountError, match="module of surecount's own"):
        package(tmp_path / "code", file, "udfs.mine:decode")
