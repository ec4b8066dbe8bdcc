"""TCP ports, on the loopback interface if nothing else is said."""

from __future__ import annotations

import random
import socket

from surecount.errors import SurecountError
from surecount.local.processes import owner_of_port

HOST = "127.0.0.1"

# Below the range from which systems take the ports of outgoing connections (32768 and up on
# Linux): a process that is restarted finds its port free.
_FREE_PORTS = range(15_000, 32_000)
_ATTEMPTS = 200
_CONNECT_TIMEOUT_S = 2.0


def is_free(port: int) -> bool:
    """Whether a server can listen on ``port``."""
    with socket.socket() as probe:
        # As servers do: a connection in TIME_WAIT does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def answers(port: int, host: str = HOST) -> bool:
    """Whether a server listens on ``port`` of ``host``; not where there is no such host."""
    with socket.socket() as probe:
        probe.settimeout(_CONNECT_TIMEOUT_S)
        try:
            return probe.connect_ex((host, port)) == 0
        except socket.gaierror:
            return False


def pick(taken: set[int]) -> int:
    """A free port that is not in ``taken``, and add it to ``taken``."""
    for _ in range(_ATTEMPTS):
        port = random.choice(_FREE_PORTS)
        if port not in taken and is_free(port):
            taken.add(port)
            return port
    raise SurecountError(f"no free port found among {_FREE_PORTS.start}–{_FREE_PORTS.stop - 1}")


def claim(port: int, user: str, option: str, taken: set[int]) -> int:
    """``port`` if it is free, any free one for 0, and add it to ``taken``.

    Raises :class:`SurecountError` naming ``user`` and the ``option`` that chooses another.
    """
    if port == 0:
        return pick(taken)
    if not 1 <= port <= 65_535:
        raise SurecountError(f"{option} gives {user} port {port}", "ports are 1–65535, or 0 for any free one")
    if port in taken or not is_free(port):
        holder = owner_of_port(port)
        by = f" by {holder}" if holder else ""
        raise SurecountError(
            f"port {port}, for {user}, is in use{by}",
            f"choose another with {option} (0 takes any that is free)",
        )
    taken.add(port)
    return port
