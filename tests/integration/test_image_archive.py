"""The archive that scripts/deploy.sh makes with a real engine, and takes again on another machine."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.deploy.kustomize import pods
from tests.scripts.machine import SCRIPTS, make_machine

if TYPE_CHECKING:
    from tests.integration.engine import Engine


def archive_of(engine: Engine, archive: Path) -> str:
    """Runs ``deploy.sh --image-only``; the tag that it tells."""
    path = f"{Path(engine.client).parent}:{os.environ['PATH']}"
    command = ["sh", str(SCRIPTS / "deploy.sh"), "--image-only", str(archive), "--", *engine.build_options]
    env = {**os.environ, **engine.env, "PATH": path}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.search(r"(tierwise:edge-[0-9a-f]{12}) is in", done.stderr)
    assert told is not None, done.stderr
    return told[1]


def test_image_is_named_by_its_content_and_found_in_its_archive(engine: Engine, tmp_path: Path) -> None:
    tag = archive_of(engine, tmp_path / "first.tar")
    try:
        assert archive_of(engine, tmp_path / "second.tar") == tag
        facts = engine.inspect(tag)
    finally:
        engine.run("image", "rm", "--force", "tierwise:edge", tag)
    assert facts["Id"].removeprefix("sha256:").startswith(tag.rpartition("-")[2])
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=SCRIPTS, capture_output=True, text=True, check=False)
    assert facts["Config"]["Labels"]["org.opencontainers.image.revision"] == (git.stdout.strip() or "unknown")
    assert (tmp_path / "first.tar").stat().st_mode & 0o044 == 0o044  # scp by whoever is not root
    (tmp_path / "machine").mkdir()
    machine = make_machine(tmp_path / "machine")
    machine.install_k3s()
    model = tmp_path / "model.onnx"
    model.write_bytes(b"weights")
    done = machine.run("deploy.sh", "--model", str(model), "--image-archive", str(tmp_path / "first.tar"))
    assert done.returncode == 0, done.stderr
    assert pods(machine.applied())["containers"][0]["image"] == tag
