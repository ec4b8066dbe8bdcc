"""The command ``surecount acls``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from surecount import config
from surecount.config import Kafka, Pipeline
from surecount.console import AsJson, Directory, PipelineFile, out, print_json
from surecount.errors import SurecountError
from surecount.kafka.grants import grant as give
from surecount.kafka.rights import ROLES, Needed, Role, needed
from surecount.kafka.rights import principal as user_of
from surecount.local.stack import DEFAULT_DIRECTORY, Stack


def acls(
    pipeline: PipelineFile,
    principal: Annotated[
        str | None,
        typer.Option(
            metavar="User:NAME",
            help="Who gets the rights; default: the user of [kafka.security], or the pipeline's name.",
        ),
    ] = None,
    role: Annotated[
        list[str] | None, typer.Option(help=f"Only what this role needs; one of {', '.join(ROLES)}.")
    ] = None,
    grant: Annotated[bool, typer.Option(help="Give them on the local stack, as its admin.")] = False,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Print the least Kafka rights that a pipeline needs, as kafka-acls lines."""
    loaded = config.load(pipeline)
    roles = _roles(role or list(ROLES))
    if principal is not None and not principal.startswith("User:"):
        raise SurecountError(f"--principal {principal!r}: not a principal", f"write --principal User:{principal}")
    wanted = [(one, principal or _principal(loaded, one.kafka)) for one in needed(loaded, roles)]
    if as_json:
        print_json([_to_dict(*one) for one in wanted])
    elif not grant:
        for line in _lines(roles, wanted):
            out.print(line, markup=False, highlight=False, soft_wrap=True)
    if grant:
        _grant(Stack(directory), wanted)


def _roles(names: Sequence[str]) -> list[Role]:
    if unknown := [name for name in names if name not in ROLES]:
        raise SurecountError(f"--role {unknown[0]}: no such role", f"one of {', '.join(ROLES)}")
    return [role for role in ROLES if role in names]


def _principal(pipeline: Pipeline, kafka: Kafka) -> str:
    return f"User:{pipeline.name}" if kafka.security is None else user_of(kafka)


def _lines(roles: Sequence[Role], wanted: Iterable[tuple[Needed, str]]) -> Iterable[str]:
    for role in roles:
        yield f"# {role}: {ROLES[role]}"
        yield from (f"{one.right.acl(one.kafka, who)}  # {one.why}" for one, who in wanted if one.role == role)


def _to_dict(one: Needed, principal: str) -> dict[str, object]:
    right = one.right
    return {
        "role": one.role,
        "bootstrap_servers": one.kafka.bootstrap_servers,
        "principal": principal,
        "resource": right.kind,
        "name": right.name,
        "pattern": "prefixed" if right.prefixed else "literal",
        "operations": right.operations,
        "why": one.why,
    }


def _grant(stack: Stack, wanted: Sequence[tuple[Needed, str]]) -> None:
    servers = stack.bootstrap_servers
    elsewhere = sorted({one.kafka.bootstrap_servers for one, _ in wanted} - {servers})
    by_principal: dict[str, list[Needed]] = {}
    for one, who in wanted:
        if one.kafka.bootstrap_servers == servers:
            by_principal.setdefault(who, []).append(one)
    if not by_principal:
        raise SurecountError(
            f"the pipeline's Kafka is at {', '.join(elsewhere)}, and the local stack's at {servers}",
            "name the stack with --dir, or mend kafka.bootstrap_servers",
        )
    for who, of in by_principal.items():
        give(stack.kafka_as_admin, [one.right for one in of], who)
        out.print(f"{who} has what {', '.join(dict.fromkeys(one.role for one in of))} need at {servers}")
    if elsewhere:
        out.print(f"not given, as it is not this stack: {', '.join(elsewhere)}")
