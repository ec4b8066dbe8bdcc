"""TLS to Flink's REST API: which certificates the client trusts, and which one it shows.

Three files, as PEM: SURECOUNT_FLINK_CA, SURECOUNT_FLINK_CERT and SURECOUNT_FLINK_KEY name them. The options ``--ca``,
``--cert`` and ``--key`` of every command that has ``--flink`` set the variables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surecount.errors import SurecountError

CA, CERT, KEY = "SURECOUNT_FLINK_CA", "SURECOUNT_FLINK_CERT", "SURECOUNT_FLINK_KEY"


@dataclass(frozen=True)
class RestTls:
    """Paths of PEM files. Without ``ca`` the machine's own authorities are trusted; without ``cert`` none is shown."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> RestTls:
        """The files that the variables name. Raises SurecountError for what could not work."""
        found = cls(*(environ.get(name) or None for name in (CA, CERT, KEY)))
        for option, path in (("--ca", found.ca), ("--cert", found.cert), ("--key", found.key)):
            if path is not None and not Path(path).is_file():
                raise SurecountError(
                    f"{option} {path}: there is no such file", f"name a PEM file with {option} or unset it"
                )
        if found.key is not None and found.cert is None:
            raise SurecountError("--key goes with a certificate", "name it with --cert")
        # requests would ask for the passphrase at the terminal.
        if (holder := found.key or found.cert) and b"ENCRYPTED" in Path(holder).read_bytes():
            raise SurecountError(
                f"{holder}: the key has a passphrase",
                f"write one without that only you can read: (umask 077; openssl pkey -in {holder} -out key.pem)",
            )
        return found

    def of_requests(self) -> dict[str, Any]:
        """The arguments of requests for a call with it."""
        shown = (self.cert, self.key) if self.key else self.cert
        return {"verify": self.ca or True, "cert": shown}
