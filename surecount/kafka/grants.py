"""Giving rights, as a user who may: an administrator of a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from surecount.config import Kafka
from surecount.errors import SurecountError
from surecount.kafka.rights import Kind, Right
from surecount.kafka.security import for_librdkafka

_TYPES: dict[Kind, ResourceType] = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional-id": ResourceType.TRANSACTIONAL_ID,
    "cluster": ResourceType.BROKER,  # librdkafka's name for it
}
_OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}
_TIMEOUT_S = 30.0


def bindings(right: Right, principal: str) -> list[AclBinding]:
    """A right as Kafka's ACLs, one for each operation, from any host."""
    pattern = ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL
    return [
        AclBinding(_TYPES[right.kind], right.name, pattern, principal, "*", _OPERATIONS[name], AclPermissionType.ALLOW)
        for name in right.operations
    ]


def grant(as_admin: Kafka, rights: Iterable[Right], principal: str) -> None:
    """Give rights to a principal such as ``User:shop``, as one who may do so.

    Raises SurecountError with Kafka's own words.
    """
    wanted = list({binding: None for right in rights for binding in bindings(right, principal)})
    config: dict[str, Any] = for_librdkafka(as_admin)
    admin = AdminClient(config)
    for binding, future in admin.create_acls(wanted, request_timeout=_TIMEOUT_S).items():
        try:
            future.result(timeout=2 * _TIMEOUT_S)
        except KafkaException as error:
            failure = f"{binding.principal} cannot be given rights on {binding.name}"
            raise SurecountError(f"{failure}: {error.args[0].str()}") from error
