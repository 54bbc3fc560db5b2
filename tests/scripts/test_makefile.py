"""The Makefile's promises, by what make would do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.components import need

ROOT = Path(__file__).parents[2]


INDEX = "https://wheels.example/cpu"


def would_do(*arguments: str) -> str:
    need(program="make")
    command = ["make", "-n", *arguments, "VENV=/nowhere/.venv"]
    # Not what the `make test` around this test was told.
    env = {"PATH": os.environ["PATH"]}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout


def test_clean_keeps_models_and_a_folder_of_results_that_was_named() -> None:
    (line,) = would_do("clean", "OUT=results").splitlines()
    removed = line.split()[2:]
    assert "/nowhere/.venv" in removed
    assert not {"models", "results"} & set(removed)


def test_torch_comes_from_the_index_that_was_named_before_anything_needs_it() -> None:
    installs = [line for line in would_do("demo", f"TORCH_INDEX={INDEX}").splitlines() if "pip" in line]
    named = [number for number, line in enumerate(installs) if INDEX in line]
    (project,) = [number for number, line in enumerate(installs) if "--editable" in line]
    assert len(named) == 1
    assert named[0] < project
    assert installs[named[0]].endswith(f"--extra-index-url {INDEX} torch==2.13.0")


def test_without_an_index_pip_is_left_alone() -> None:
    assert "index-url" not in would_do("demo")
