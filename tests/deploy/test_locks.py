"""The lock files of the images: complete, pinned by hash, and installable from wheels on both architectures."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.package_index import pip

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
LOCKS = sorted(DOCKER.glob("*.lock"))
OLDEST_GLIBC, NEWEST_GLIBC = 17, 36
"""Wheels for any glibc from 2.17 to that of Debian 12, the oldest base that is meant."""


def entries(lock: Path) -> list[tuple[Requirement, list[str]]]:
    """Each requirement of a lock with its hashes."""
    joined = lock.read_text().replace("\\\n", " ")
    lines = [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [
        (Requirement(line.partition(" --hash=")[0]), re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
        for line in lines
    ]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_package_is_pinned_by_hash_and_by_nothing_else(lock: Path) -> None:
    for requirement, hashes in entries(lock):
        assert hashes, requirement
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
        assert requirement.url is None
    assert "://" not in lock.read_text()


@pytest.mark.parametrize(("name", "extra"), [("edge", "edge"), ("cloud", "cloud")])
def test_lock_fits_what_the_package_requires(name: str, extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = {canonicalize_name(r.name): r for r, _ in entries(DOCKER / f"requirements-{name}.lock")}
    if name == "cloud":
        locked |= {canonicalize_name(r.name): r for r, _ in entries(DOCKER / "requirements-torch.lock")}
    for text in [*project["dependencies"], *project["optional-dependencies"][extra]]:
        wanted = Requirement(text)
        assert canonicalize_name(wanted.name) in locked, f"{wanted} is in no lock: run docker/lock.sh"
        pinned = locked[canonicalize_name(wanted.name)]
        version = str(pinned.specifier).removeprefix("==")
        assert wanted.specifier.contains(version, prereleases=True), (
            f"{wanted} is locked to {version}: run docker/lock.sh"
        )


@pytest.mark.parametrize(
    ("name", "architecture", "python"),
    [
        ("edge", "x86_64", "3.11"),
        ("edge", "x86_64", "3.12"),
        ("edge", "aarch64", "3.11"),
        ("edge", "aarch64", "3.12"),
        ("cloud", "x86_64", "3.12"),
        ("cloud", "aarch64", "3.12"),
        ("build", "aarch64", "3.12"),
    ],
)
def test_wheels_are_there_and_have_these_hashes(tmp_path: Path, name: str, architecture: str, python: str) -> None:
    environment = {"python_full_version": f"{python}.0", "python_version": python, "platform_machine": architecture}
    wanted = {
        canonicalize_name(requirement.name): (str(requirement.specifier), hashes)
        for requirement, hashes in entries(DOCKER / f"requirements-{name}.lock")
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }
    pins = tmp_path / "pins.txt"
    pins.write_text("".join(f"{name}{specifier}\n" for name, (specifier, _) in wanted.items()))
    tags = [f"manylinux_2_{minor}" for minor in range(OLDEST_GLIBC, NEWEST_GLIBC + 1)] + ["manylinux2014"]
    platforms = [part for tag in tags for part in ("--platform", f"{tag}_{architecture}")]
    # With --require-hashes pip would download every wheel; the index tells their hashes, which are compared here.
    command = ["install", "--dry-run", "--quiet", "--ignore-installed", "--no-deps"]
    command += ["--target", str(tmp_path / "target"), "--only-binary", ":all:", "--ignore-requires-python", *platforms]
    command += ["--implementation", "cp", "--python-version", python, "--requirement", str(pins)]
    found = json.loads(pip(*command, "--report", "-", timeout_s=300))["install"]
    for package in found:
        digest = package["download_info"]["archive_info"]["hashes"]["sha256"]
        assert digest in wanted[canonicalize_name(package["metadata"]["name"])][1], package["download_info"]["url"]
    assert len(found) == len(wanted)


def test_torch_is_its_cpu_build_for_both_architectures_and_both_pythons() -> None:
    [(requirement, hashes)] = entries(DOCKER / "requirements-torch.lock")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert str(requirement) in project["optional-dependencies"]["cloud"]
    assert len(hashes) == 4
    cloud = {requirement.name for requirement, _ in entries(DOCKER / "requirements-cloud.lock")}
    assert not [name for name in cloud if name.startswith(("nvidia", "cuda", "triton"))]
