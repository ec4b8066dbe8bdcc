"""Whether a server is in service, for a container's health check: exit 0 if it is, 1 if not."""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Sequence

from surecount.local import kafka
from surecount.local.flink import registered_taskmanagers

TIMEOUT_S = 5.0


def broker(number: int, address: str) -> bool:
    """Whether broker ``number`` answers at ``host:port``, and the cluster counts it in."""
    host, port = _parts(address)
    return kafka.in_service(number, port, TIMEOUT_S, host)


def zookeeper(address: str) -> bool:
    """Whether ZooKeeper serves clients at ``host:port``."""
    try:
        with socket.create_connection(_parts(address), TIMEOUT_S) as connection:
            connection.sendall(b"srvr")  # the one of its four-letter words that is allowed unless said otherwise
            return b"Mode: " in connection.makefile("rb").read()
    except OSError:
        return False


def jobmanager(url: str) -> bool:
    """Whether the JobManager behind a REST address, or the leader that it asks, is in service."""
    return registered_taskmanagers(url, TIMEOUT_S) is not None


def taskmanager(name: str, urls: Sequence[str]) -> bool:
    """Whether a TaskManager is registered with the JobManager, which any of the REST addresses may reach."""
    return any(name in (registered_taskmanagers(url, TIMEOUT_S) or ()) for url in urls)


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def parser() -> argparse.ArgumentParser:
    """The command lines that there are, such as ``broker 1 kafka-1:9092``; ``check`` is what one asks for."""
    parser = argparse.ArgumentParser(prog="health", description=__doc__)
    roles = parser.add_subparsers(dest="role", required=True)
    role = roles.add_parser("broker")
    role.add_argument("number", type=int)
    role.add_argument("address", metavar="HOST:PORT")
    role.set_defaults(check=lambda a: broker(a.number, a.address))
    role = roles.add_parser("zookeeper")
    role.add_argument("address", metavar="HOST:PORT")
    role.set_defaults(check=lambda a: zookeeper(a.address))
    role = roles.add_parser("jobmanager")
    role.add_argument("url", metavar="URL")
    role.set_defaults(check=lambda a: jobmanager(a.url))
    role = roles.add_parser("taskmanager")
    role.add_argument("name")
    role.add_argument("urls", metavar="URL", nargs="+")
    role.set_defaults(check=lambda a: taskmanager(a.name, a.urls))
    return parser


def main() -> None:
    arguments = parser().parse_args()
    if not arguments.check(arguments):
        sys.exit(f"{arguments.role} is not in service")


if __name__ == "__main__":
    main()
