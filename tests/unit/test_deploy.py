"""Dockerfile, docker-compose.yml and deploy/kubernetes/, as far as they can be checked without an engine."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zipfile import ZipFile

import pytest
import typer
import yaml

from surecount import config
from surecount.cli import app
from surecount.container import health, roles
from surecount.local import kafka
from surecount.local.flink import conf_value
from surecount.local.layout import FLINK_CONF, PROJECT, flink_home
from surecount.local.prerequisites import JAVA_VERSION

ROLE_DIR = "/var/lib/surecount"
IMAGE_ROOT = "/opt/surecount/"
DOCKERFILE = (PROJECT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
BROKERS = [name for name in SERVICES if name.startswith("kafka-")]
KUBERNETES = PROJECT / "deploy" / "kubernetes"
CONF = (FLINK_CONF / "config.yaml").read_text(encoding="utf-8")
DOCUMENTS = [
    PROJECT / "Dockerfile",
    PROJECT / "docker-compose.yml",
    PROJECT / "deploy" / "entrypoint.sh",
    PROJECT / "docs" / "deploy.md",
    *sorted(KUBERNETES.iterdir()),
]


def _copied() -> set[str]:
    """What the image takes from the project."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return {source.rstrip("/") for line in lines for source in line.split()[:-1]}


def _in_project(image_path: str) -> Path:
    """The project's file for a path in the image; it must be one that the image gets."""
    path = image_path.removeprefix(IMAGE_ROOT)
    assert any(path == source or path.startswith(f"{source}/") for source in _copied()), image_path
    return PROJECT / path


def _load(name: str) -> Any:
    return yaml.safe_load((KUBERNETES / name).read_text(encoding="utf-8"))


def _parts(name: str) -> list[Any]:
    return list(yaml.safe_load_all((KUBERNETES / name).read_text(encoding="utf-8")))


def _entries(lock: str) -> dict[str, str]:
    """The hashes of each ``package==version`` in a lock."""
    text = (PROJECT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    return {name: " ".join(hashes.split()) for name, hashes in lines}


def _locked(package: str) -> str:
    return next(name.partition("==")[2] for name in _entries("requirements.lock") if name.startswith(f"{package}=="))


# --- The image --------------------------------------------------------------------------------
def test_the_image_gets_what_is_there_and_the_build_sees_nothing_else() -> None:
    for source in _copied():
        assert (PROJECT / source).exists(), source
    first, *others = [
        line
        for line in (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line[:1] not in ("", "#")
    ]
    assert first == "*"
    assert {line.removeprefix("!") for line in others if line.startswith("!")} == _copied()


def test_the_image_has_what_commands_read_from_the_project() -> None:
    """PROJECT / … in surecount/ and jobs/ are places in the image, too."""
    code = "".join(path.read_text(encoding="utf-8") for path in (PROJECT / "surecount").rglob("*.py"))
    places = set(re.findall(r'PROJECT / "([^"]+)"', code))
    assert {"flink-conf", "java"} <= places
    assert places <= {*_copied(), "java"}
    assert "COPY --from=jars /opt/surecount/java/target java/target" in DOCKERFILE


def test_it_is_not_root_who_runs_in_it_and_its_entrypoint_can_be_run() -> None:
    assert re.search(r"^USER 9999:9999$", DOCKERFILE, re.MULTILINE)
    entrypoint = re.search(r'^ENTRYPOINT \["([^"]+)"\]$', DOCKERFILE, re.MULTILINE)
    assert entrypoint is not None
    assert os.access(_in_project(entrypoint[1]), os.X_OK)


def test_versions_stand_in_one_place() -> None:
    pom = ET.parse(PROJECT / "java" / "pom.xml").getroot()
    space = {"m": "http://maven.apache.org/POM/4.0.0"}
    named = {element.text or "" for element in pom.findall("m:properties/*", space) if element.tag.endswith("version")}
    named |= {_locked(package) for package in ("apache-flink", "apache-beam", "pyarrow", "confluent-kafka")}
    named -= {"2.13"}
    assert len(named) >= 8
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert not [version for version in named if version in text], document


def test_python_and_java_are_those_that_the_project_asks_for() -> None:
    asked = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    pythons = set(re.findall(r"^ARG PYTHON\w*=python:3\.(\d+)", DOCKERFILE, re.MULTILINE))
    low, high = map(int, re.findall(r"3\.(\d+)", asked))
    assert len(pythons) == 1
    assert low <= int(pythons.pop()) < high
    assert set(re.findall(r"eclipse-temurin[:-](\d+)", DOCKERFILE)) == {str(JAVA_VERSION)}


def test_every_base_image_can_be_pinned_and_is_where_digests_are_kept() -> None:
    images = dict(re.findall(r"^ARG (\w+)=(.+)$", DOCKERFILE, re.MULTILINE))
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {f"${{{name}}}" for name in images}
    assert set(re.findall(r"--from=(\S+)", DOCKERFILE)) <= set(re.findall(r" AS (\w+)$", DOCKERFILE, re.MULTILINE))
    assert set(SERVICES["kafka-1"]["build"]["args"]) == set(images)
    pinned = PROJECT / "deploy" / "images.env"
    if pinned.exists():
        found = dict(line.split("=", 1) for line in pinned.read_text(encoding="utf-8").splitlines())
        assert found.keys() == images.keys()
        for name, image in images.items():
            assert re.fullmatch(re.escape(image) + "@sha256:[0-9a-f]{64}", found[name])


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_locks_have_hashes_and_no_address(lock: str) -> None:
    entries = _entries(lock)
    assert all(re.fullmatch(r"(--hash=sha256:[0-9a-f]{64} ?)+", hashes) for hashes in entries.values())
    assert "://" not in (PROJECT / lock).read_text(encoding="utf-8")


def test_the_image_gets_the_production_lock_of_what_developers_test_with() -> None:
    production, developing = _entries("requirements.lock"), _entries("requirements-dev.lock")
    assert production.items() < developing.items()
    assert not {"pytest", "mypy", "ruff", "hypothesis", "pip-tools"} & {name.partition("==")[0] for name in production}
    assert "--require-hashes -r requirements.lock" in DOCKERFILE
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert "--require-hashes -r requirements-dev.lock" in makefile


# --- Compose ----------------------------------------------------------------------------------
def test_compose_has_the_services_that_it_promises() -> None:
    kinds = [name.partition("-")[0] for name in SERVICES]
    counts = {kind: kinds.count(kind) for kind in kinds}
    assert counts == {"kafka": 3, "zookeeper": 1, "jobmanager": 2, "taskmanager": 2, "surecount": 1}
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", {})) <= set(SERVICES), name
        volumes = [volume.partition(":")[0] for volume in service["volumes"]]
        assert {volume for volume in volumes if volume[0] not in "$./"} <= set(COMPOSE["volumes"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert not [key for key in service.get("environment", {}) if re.search("PASSW|SECRET|TOKEN", key)], name
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["cpus"] and service["mem_limit"] and service["pids_limit"], name
        # All else that a role writes to; not in memory, and with native libraries that are run from there.
        assert [volume for volume in service["volumes"] if volume.endswith("/var/lib/surecount")], name
        assert service["tmpfs"] == ["/tmp"], name


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "surecount"])
def test_a_server_has_a_health_check_of_its_own_address(name: str) -> None:
    service = SERVICES[name]
    kind, entrypoint, role, *words = service["healthcheck"]["test"]
    assert (kind, role, service["hostname"]) == ("CMD", "health", name)
    assert os.access(_in_project(entrypoint), os.X_OK)
    arguments = health.parser().parse_args(words)
    assert arguments.role == service["command"][0]
    own = {"broker": "address", "zookeeper": "address", "jobmanager": "url", "taskmanager": "name"}[arguments.role]
    address = getattr(arguments, own)
    assert (urlsplit(address).hostname if "//" in address else address.partition(":")[0]) == name
    if arguments.role == "taskmanager":
        assert [urlsplit(url).hostname for url in arguments.urls] == ["jobmanager-1", "jobmanager-2"]


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in BROKERS])
def test_a_service_is_configured_by_flink_conf_and_its_own_lines(name: str, tmp_path: Path) -> None:
    service = SERVICES[name]
    environ = {**service.get("environment", {}), "SURECOUNT_ROLE_DIR": str(tmp_path)}
    words = [*service.get("entrypoint", [None])[1:], *service["command"]]
    command = roles.prepare(words, environ)
    assert Path(command.argv[0]).is_file()
    written = (tmp_path / "conf" / "config.yaml").read_text(encoding="utf-8")
    own = roles.parse_properties(service.get("environment", {}).get("FLINK_PROPERTIES", ""))
    for line in CONF.splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition(": ")
            assert conf_value(written, key) == own.get(key, value)
    for key, value in own.items():
        assert conf_value(written, key) == value
        if value.startswith("file://"):
            assert "state:/state" in service["volumes"]
            assert value.startswith("file:///state/")


def test_brokers_replicate_and_are_reached_from_inside_and_outside() -> None:
    nodes = roles.parse_nodes(SERVICES["kafka-1"]["environment"]["SURECOUNT_BROKERS"])
    assert [node.host for node in nodes] == BROKERS
    for node in nodes:
        service = SERVICES[node.host]
        assert service["command"] == ["broker", str(node.number)]
        assert service["ports"] == [f"127.0.0.1:{node.outside_port}:{node.outside_port}"]
        text = kafka.server_properties(node, nodes, Path("data"))
        settings = dict(line.split("=", 1) for line in text.splitlines())
        inside, outside = f"{node.host}:9092", node.outside_port
        assert settings["advertised.listeners"] == f"PLAINTEXT://{inside},OUTSIDE://127.0.0.1:{outside}"
        assert f"OUTSIDE://{node.host}:{outside}" in settings["listeners"].split(",")
        assert settings["controller.quorum.voters"] == "1@kafka-1:9093,2@kafka-2:9093,3@kafka-3:9093"
        assert (settings["default.replication.factor"], settings["min.insync.replicas"]) == ("3", "2")
        assert settings["auto.create.topics.enable"] == "false"
    cluster_ids = {SERVICES[name]["environment"]["SURECOUNT_CLUSTER_ID"] for name in BROKERS}
    assert len(cluster_ids) == 1
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}", cluster_ids.pop())


@pytest.mark.parametrize("file", ["examples/shop-compose.toml", "deploy/kubernetes/shop.toml"])
def test_the_example_is_the_same_but_for_its_kafka(file: str) -> None:
    example, here = (config.load(PROJECT / path) for path in ("examples/shop.toml", file))
    assert here.model_copy(update={"kafka": example.kafka}) == example
    if "compose" in file:
        assert here.kafka.bootstrap_servers == ",".join(f"{name}:9092" for name in BROKERS)


# --- Kubernetes -------------------------------------------------------------------------------
@pytest.mark.parametrize("file", ["session.yaml", "application.yaml"])
def test_a_flink_deployment_has_all_of_flink_conf(file: str) -> None:
    deployment = _load(file)
    spec = deployment["spec"]
    assert (deployment["apiVersion"], deployment["kind"]) == ("flink.apache.org/v1beta1", "FlinkDeployment")
    major, minor, _ = _locked("apache-flink").split(".")
    assert spec["flinkVersion"] == f"v{major}_{minor}"
    settings = spec["flinkConfiguration"]
    sizes = {
        "jobmanager.memory.process.size": spec["jobManager"]["resource"]["memory"],
        "taskmanager.memory.process.size": spec["taskManager"]["resource"]["memory"],
    }
    for line in CONF.splitlines():
        # ZooKeeper's settings are without effect where Kubernetes takes its place.
        if not line or line.startswith(("#", "high-availability.zookeeper.")):
            continue
        key, _, value = line.partition(": ")
        if key in sizes:
            assert sizes[key] == value.replace(" gb", "g")
        else:
            assert settings[key] == value
    assert os.access(_in_project(settings["kubernetes.entry.path"]), os.X_OK)
    assert "COPY --from=packages /opt/surecount/.venv .venv" in DOCKERFILE
    assert settings["python.executable"] == settings["python.client.executable"] == f"{IMAGE_ROOT}.venv/bin/python"
    # Two JobManagers, and savepoints, need these.
    assert settings["high-availability.type"] == "kubernetes"
    for key in ("execution.checkpointing.dir", "execution.checkpointing.savepoint-dir", "high-availability.storageDir"):
        assert settings[key].startswith("file:///state/")
    assert all(isinstance(value, str) for value in settings.values())


def test_the_application_runs_a_job_of_the_project_with_options_that_it_has() -> None:
    job = _load("application.yaml")["spec"]["job"]
    options = dict(zip(job["args"][::2], job["args"][1::2], strict=True))
    assert _in_project(options.pop("--python")).is_file()
    known = (PROJECT / "jobs" / "submission.py").read_text(encoding="utf-8")
    assert all(f'"{option}"' in known for option in options)
    assert options["--parallelism"] == str(job["parallelism"])
    pipeline = config.load(KUBERNETES / Path(options["--pipeline"]).name)
    assert options["--name"] == f"{pipeline.name}.aggregate"
    assert (job["upgradeMode"], job.get("jarURI")) == ("savepoint", None)
    (jar,) = (flink_home() / "opt").glob("flink-python-*.jar")
    with ZipFile(jar) as classes:
        classes.getinfo(job["entryClass"].replace(".", "/") + ".class")


def test_kustomize_names_files_that_are_there_and_mounts_what_it_makes() -> None:
    kustomization = _load("kustomization.yaml")
    made = {part["metadata"]["name"] for name in kustomization["resources"] for part in _parts(name)}
    for generator in kustomization["configMapGenerator"]:
        assert all((KUBERNETES / file).is_file() for file in generator["files"])
        made.add(generator["name"])
    pods = [_load(name)["spec"]["podTemplate"]["spec"] for name in ("session.yaml", "application.yaml")]
    for pod in [*pods, _load("commands.yaml")["spec"]["template"]["spec"]]:
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 9999,
            "runAsGroup": 9999,
            "fsGroup": 9999,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert pod["containers"][0]["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert volumes[mounts["/tmp"]]["emptyDir"] == volumes[mounts[ROLE_DIR]]["emptyDir"] == {}
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == set(volumes)
        for volume in volumes.values():
            if "emptyDir" in volume:
                continue
            source = volume.get("persistentVolumeClaim", {}).get("claimName") or volume["configMap"]["name"]
            assert source in made


def test_between_pods_only_flinks_own_ports_are_open() -> None:
    policies = {part["metadata"]["name"]: part["spec"] for part in _parts("network.yaml")}
    assert {spec["podSelector"]["matchLabels"].get("component") for spec in policies.values()} == {
        *("jobmanager", "taskmanager"),
        None,
    }
    assert all(spec["policyTypes"] == ["Ingress"] for spec in policies.values())
    assert "ingress" not in policies["surecount-commands"]
    opened = {
        name: {port["port"] for rule in spec.get("ingress", []) for port in rule["ports"]}
        for name, spec in policies.items()
    }
    for file in ("session.yaml", "application.yaml"):
        settings = _load(file)["spec"]["flinkConfiguration"]
        ports = {int(settings["taskmanager.rpc.port"]), int(settings["taskmanager.data.port"])}
        assert opened["surecount-taskmanager"] == ports
    # What Flink on Kubernetes gives a JobManager where nothing is said.
    assert opened["surecount-jobmanager"] == {6123, 6124, 8081}
    app = _load("commands.yaml")["spec"]["template"]["metadata"]["labels"]
    allowed = policies["surecount-jobmanager"]["ingress"][1]["from"][0]["podSelector"]["matchLabels"]
    assert allowed == app == policies["surecount-commands"]["podSelector"]["matchLabels"]


# --- Commands that are written down ------------------------------------------------------------
def test_commands_and_options_in_documents_are_there() -> None:
    known: Any = typer.main.get_command(app)
    seen = set()
    for document in DOCUMENTS:
        for name, rest in re.findall(r"\bsurecount ([a-z]+)((?: +[^\s`|#]+)*)", document.read_text(encoding="utf-8")):
            if name in known.commands and "--" in rest:
                options = {option for parameter in known.commands[name].params for option in parameter.opts}
                assert set(re.findall(r"--[a-z-]+", rest)) <= options, (document, name, rest)
                seen.add(name)
    assert "submit" in seen


def test_the_entrypoint_is_a_valid_script() -> None:
    subprocess.run(["bash", "-n", PROJECT / "deploy" / "entrypoint.sh"], check=True)
