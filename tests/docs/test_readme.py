"""What the first pages show is there and is so."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from docs.generate import FOLDER

if TYPE_CHECKING:
    from pathlib import Path

ROOT = FOLDER.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_scenario_gives_the_output_that_is_shown(tmp_path: Path) -> None:
    [scenario] = re.findall(r"```yaml\n(tierwise: 1\n.*?)```", README, re.DOTALL)
    [command] = re.findall(r"^tierwise (simulate plant\.yaml .*)$", README, re.MULTILINE)
    [output] = re.findall(r"<!-- simulation: begin -->\n```text\n(.*?)```", README, re.DOTALL)
    (tmp_path / "plant.yaml").write_text(scenario, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "tierwise", *shlex.split(command)],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert output in done.stdout


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "docs/README.md", "docs/models.md", "docs/profile.md"]
)
def test_every_link_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)|src(?:set)?=\"([^\"]+)\"", text)
    local = [target for pair in targets for target in pair if target and "://" not in target]
    assert local
    assert [target for target in local if not ((ROOT / page).parent / target).exists()] == []
