"""What must be on the machine before a stack can start: Java 17, the jars, some disk."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from surecount.errors import SurecountError
from surecount.local.layout import BROKER_JARS, FLINK_JARS, NEEDED_JARS

JAVA_VERSION = 17
MIN_FREE_BYTES = 1024**3

_INSTALL_JAVA = f"install a JDK {JAVA_VERSION} (Debian: openjdk-{JAVA_VERSION}-jdk) and point JAVA_HOME at it"


def check_prerequisites(*, fetching: bool = False) -> Path:
    """Check the machine and return the path of ``java``.

    With ``fetching``, what is needed to fetch the jars (Maven); else the fetched jars. Raises
    :class:`SurecountError` for the first thing that is missing.
    """
    java = find_java()
    if fetching:
        if shutil.which("mvn") is None:
            raise SurecountError("Maven is not installed", "install it (Debian: apt install maven)")
    else:
        check_jars()
    return java


def find_java() -> Path:
    """The ``java`` of JAVA_HOME, else of PATH, if it is of the right version."""
    home = os.environ.get("JAVA_HOME")
    if home:
        java = Path(home) / "bin" / "java"
        if not java.is_file():
            raise SurecountError(f"JAVA_HOME is {home}, and there is no bin/java in it", _INSTALL_JAVA)
    else:
        found = shutil.which("java")
        if found is None:
            raise SurecountError("Java is not installed", _INSTALL_JAVA)
        java = Path(found)
    printed = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = parse_java_version(printed)
    if version != JAVA_VERSION:
        is_now = "of an unknown version" if version is None else f"Java {version}"
        raise SurecountError(f"{java} is {is_now}; Java {JAVA_VERSION} is needed", _INSTALL_JAVA)
    return java


def parse_java_version(printed: str) -> int | None:
    """The major version in what ``java -version`` prints: 17 of "17.0.15", 8 of "1.8.0_392"."""
    found = re.search(r'version "(\d+)(?:\.(\d+))?', printed)
    if found is None:
        return None
    major, minor = found.groups()
    return int(minor) if major == "1" and minor else int(major)


def check_jars() -> None:
    """Raise unless ``make setup`` has fetched and built the jars."""
    for folder, jar in ((BROKER_JARS, "kafka_"), *((FLINK_JARS, f"{jar}-") for jar in NEEDED_JARS)):
        if not any(folder.glob(f"{jar}*.jar")):
            raise SurecountError(
                f"{jar}*.jar is not in {folder}", "run `make setup`, which fetches and builds the jars"
            )


def check_disk(directory: Path) -> None:
    """Raise where less than 1 GiB is free: a full disk stops a broker in mid-write."""
    free = shutil.disk_usage(directory).free
    if free < MIN_FREE_BYTES:
        raise SurecountError(
            f"only {free / 1024**2:.0f} MiB are free in {directory}",
            "free 1 GiB, or choose a folder on another disk with --dir",
        )
