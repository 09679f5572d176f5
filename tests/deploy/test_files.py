"""The files in deploy/ are well-formed and agree: with one another, with the settings, and with the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from proxy import settings
from proxy.cli import main
from proxy.rules.endpoints import TIMED
from proxy.settings_sources import variable
from tests.deploy import files

CONTACT = "ops@example.org"


def program(name: str) -> str:
    """A program of the extra `dev`. CI must have it."""
    beside = Path(sys.executable).with_name(name)
    if found := str(beside) if beside.exists() else shutil.which(name):
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(f"no {name}: install the extra dev")
    pytest.skip(f"no {name}: install the extra dev")


def ran(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("right", "wrong", "status"),
    [("", "", 0), ("read_only:", "readonly:", 1), ("restart: unless-stopped", "restart: [always]", 1)],
)
def test_the_compose_file_follows_the_specification(tmp_path: Path, right: str, wrong: str, status: int) -> None:
    compose = tmp_path / "compose.yaml"
    compose.write_text(files.COMPOSE.read_text().replace(right, wrong))
    done = ran(program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", compose)
    assert done.returncode == status, done.stdout + done.stderr


@pytest.mark.parametrize(("right", "wrong", "status"), [("", "", 0), ("WORKDIR /src", "WORKDIR src", 1)])
def test_hadolint_finds_nothing_in_the_dockerfile(tmp_path: Path, right: str, wrong: str, status: int) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(files.DOCKERFILE.read_text().replace(right, wrong))
    done = ran(program("hadolint"), "--no-color", dockerfile)
    assert done.returncode == status, done.stdout + done.stderr


def test_compose_sets_what_are_settings() -> None:
    environment = files.compose_environment(CRATES_PROXY_CONTACT=CONTACT)
    loaded = settings.load({}, None, environment, endpoints=TIMED)
    assert loaded.notes == ()
    assert set(environment) <= set(loaded.origins.values())
    assert loaded.settings.upstream.contact == CONTACT
    assert loaded.settings.server.public_url == ""
    assert loaded.settings.redis.url == "redis://redis:6379/0"


def test_compose_passes_on_what_the_operator_says() -> None:
    url = "https://crates.example.org"
    environment = files.compose_environment(CRATES_PROXY_CONTACT=CONTACT, CRATES_PROXY_PUBLIC_URL=url)
    assert settings.load({}, None, environment, endpoints=TIMED).settings.server.public_url == url


def test_compose_does_not_start_without_a_contact() -> None:
    with pytest.raises(KeyError, match="CRATES_PROXY_CONTACT: .*crates.io can reach you"):
        files.compose_environment()


def test_the_guide_names_settings_only() -> None:
    named = set(re.findall(r"CRATES_PROXY_[A-Z_]+__[A-Z_]+", files.GUIDE.read_text()))
    known = settings.load({}, None, {}, endpoints=TIMED).origins
    assert named
    assert {name.removesuffix("_FILE") for name in named} <= {variable(key) for key in known}


def test_directory_and_port_are_the_same_everywhere() -> None:
    loaded = settings.load({}, None, files.image_environment(), endpoints=TIMED).settings
    compose = files.COMPOSE.read_text()
    assert files.told("VOLUME") == loaded.cache.dir
    assert f"- cache:{loaded.cache.dir}\n" in compose
    assert files.told("EXPOSE") == str(loaded.server.port)
    assert f'- "8080:{loaded.server.port}"\n' in compose
    assert f"'CRATES_PROXY_SERVER__PORT', '{loaded.server.port}'" in files.command("HEALTHCHECK")[-1]


def test_compose_waits_until_requests_are_drained() -> None:
    (grace,) = re.findall(r"stop_grace_period: (\d+)s\n", files.COMPOSE.read_text())
    drain_timeout = settings.load({}, None, {}, endpoints=TIMED).settings.server.drain_timeout
    assert int(grace) > drain_timeout + 5  # which workers have to close their stores


def test_the_image_runs_a_command_that_there_is() -> None:
    scripts = tomllib.loads((files.ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    (entrypoint,) = files.command("ENTRYPOINT")
    assert scripts[entrypoint] == "proxy.cli:main"
    assert files.command("CMD")[0] in main.commands


def test_nothing_that_the_package_is_built_from_is_missing() -> None:
    pyproject = tomllib.loads((files.ROOT / "pyproject.toml").read_text())
    project, wheel = pyproject["project"], pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {project["readme"], *project["license-files"], *wheel["packages"]}
    needed |= {source.partition("/")[0] for source in wheel["force-include"]}
    needed = {name for name in needed if name.partition("/")[0] not in needed - {name}}  # what lies in another of them
    assert {*needed, "pyproject.toml", "requirements.lock"} == set(files.copied())
    assert all((files.ROOT / name).exists() for name in files.copied())


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    lines = [line for line in files.IGNORED.read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == set(files.copied())
