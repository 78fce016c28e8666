"""What `Dockerfile`, `docker-compose.yml` and `.dockerignore` promise, read without Docker."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from services.processor.isolation import seccomp
from services.processor.isolation.limits import MAX_PROCESSES
from services.processor.settings import ProcessorSettings
from services.status.settings import StatusSettings
from services.upload.settings import UploadSettings
from shared.settings import Settings
from waybill.local.containers import KAFKA_IMAGE, MONGODB_IMAGE

ROOT = Path(__file__).resolve().parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS: dict[str, type[Settings]] = {
    "upload": UploadSettings,
    "processor": ProcessorSettings,
    "status": StatusSettings,
}


def instructions(name: str) -> list[str]:
    """The arguments of every instruction of this name in the Dockerfile."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return re.findall(rf"^{name}\s+(.*)$", text, re.MULTILINE)


def variables(settings: type[Settings]) -> set[str]:
    """The environment variables that a service reads."""
    return {f"WAYBILL_{name.upper()}" for name in settings.model_fields}


def pins(lock: Path) -> set[str]:
    """What a lock file pins, as `name==version`."""
    return set(re.findall(r"^\S+==\S+", lock.read_text(), re.MULTILINE))


def test_every_service_says_whether_it_is_healthy() -> None:
    assert any("healthcheck.py" in check for check in instructions("HEALTHCHECK"))
    for name, service in SERVICES.items():
        assert name in OURS or service["healthcheck"]["test"], name


def test_no_service_starts_before_what_it_needs_is_healthy() -> None:
    for name in OURS:
        needs = SERVICES[name]["depends_on"]
        assert "kafka" in needs, name
        assert all(need["condition"] == "service_healthy" for need in needs.values()), name


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_given_only_settings_that_it_has(name: str) -> None:
    service = SERVICES[name]
    assert service["command"] == f"python -m services.{name}"
    assert set(service["environment"]) <= variables(OURS[name])


def test_the_image_sets_only_what_some_service_reads() -> None:
    known = set.union(*map(variables, OURS.values()))
    given = re.findall(r"(WAYBILL_\w+)=", " ".join(instructions("ENV")))
    assert given
    assert set(given) <= known


def test_only_upload_and_status_can_be_reached_and_only_from_this_machine() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports.keys() == {"upload", "status"}
    assert all(port.startswith("127.0.0.1:") for each in ports.values() for port in each)


def test_there_may_be_many_processors() -> None:
    assert "container_name" not in SERVICES["processor"]


def test_a_service_has_time_to_end() -> None:
    for name in OURS:
        patience = float(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert patience > OURS[name].model_fields["shutdown_grace"].default


def test_whatever_is_kept_is_in_a_named_volume() -> None:
    used = [mount.split(":")[0] for each in SERVICES.values() for mount in each["volumes"]]
    assert set(used) == COMPOSE["volumes"].keys()


def test_docker_brings_the_same_kafka_and_mongodb_as_the_local_stack() -> None:
    assert SERVICES["kafka"]["image"] == f"${{KAFKA_IMAGE:-{KAFKA_IMAGE}}}"
    assert SERVICES["mongodb"]["image"] == f"${{MONGODB_IMAGE:-{MONGODB_IMAGE}}}"


def test_the_image_is_built_from_locked_wheels_alone() -> None:
    commands = [command for run in instructions("RUN") for command in run.split("&&")]
    installs = [each for each in commands if re.search(r"/pip .*install", each)]
    assert installs
    assert all("--require-hashes" in each or "--no-index" in each for each in installs)
    assert "PIP_ONLY_BINARY=:all:" in " ".join(instructions("ENV"))
    assert "requirements-dev.lock" not in (ROOT / "Dockerfile").read_text()


def test_the_image_is_built_with_the_versions_that_developers_use() -> None:
    building = pins(ROOT / "deploy" / "requirements-build.lock")
    assert any(pin.startswith("hatchling==") for pin in building)
    assert building <= pins(ROOT / "requirements-dev.lock")


def test_nothing_but_what_is_copied_is_sent_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    first, *rules = [line for line in lines if not line.startswith("#")]
    sent = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copies = [copy.split() for copy in instructions("COPY") if not copy.startswith("--from")]
    assert first == "*"
    assert sent == {source for *sources, _ in copies for source in sources}


def test_the_image_holds_no_mongod_and_nothing_else_of_the_local_stack() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    local = {re.split(r"[=>;]", each)[0] for each in project["optional-dependencies"]["local"]}
    in_the_image = {pin.split("==")[0] for pin in pins(ROOT / "requirements.lock")}
    assert any(name.startswith("fiftyone") for name in local)
    assert not local & in_the_image


def test_the_image_does_not_run_as_root() -> None:
    assert int(instructions("USER")[-1]) > 0


def test_no_processor_is_given_the_secrets_that_make_keys() -> None:
    secrets = {"WAYBILL_SEAL_SECRET", "WAYBILL_AUTH_SECRET"}
    assert secrets.isdisjoint(SERVICES["processor"]["environment"])
    assert secrets <= set(SERVICES["status"]["environment"])
    assert secrets <= set(SERVICES["upload"]["environment"])


def test_a_processor_bounds_its_processes() -> None:
    assert SERVICES["processor"]["pids_limit"] >= 2 * MAX_PROCESSES


def test_the_profile_for_processors_allows_what_isolates_and_refuses_the_rest() -> None:
    """It is read, not loaded: the isolation itself is tested with a profile like Docker's."""
    profile = json.loads((ROOT / "deploy" / "seccomp-processor.json").read_text())
    rules = [rule for rule in profile["syscalls"] if "args" not in rule]
    assert all(rule["action"] == "SCMP_ACT_ERRNO" for rule in profile["syscalls"])
    refused = {name for rule in rules for name in rule["names"]}
    needed = {
        *("unshare", "mount", "umount2", "pivot_root", "mount_setattr", "clone", "clone3"),
        *("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp"),
        *("prctl", "capset", "setuid", "setresuid", "setgroups", "socket", "kill"),
    }
    assert refused.isdisjoint(needed)
    for_workers_alone = {"chroot", "personality", "pidfd_open", "pidfd_send_signal", "unshare"}
    for_workers_alone |= {"get_robust_list", "process_mrelease", "shmget", "shmat", "semget"}
    for_workers_alone |= {"msgget", "mq_open", "adjtimex"}
    assert set(seccomp.ALWAYS) - needed - for_workers_alone <= refused
