"""What the machine has. A test that needs more is skipped by name; in CI a missing component is a failure."""

from __future__ import annotations

import importlib.util
import os
from typing import NoReturn

import pytest

from tierwise.live.processes import find_program


def need(*, program: str | None = None, package: str | None = None) -> None:
    """Skips the calling test or module (fails it where ``CI`` is set) unless the program or package is installed."""
    if program is not None and find_program(program) is None:
        missing(f"{program} is not installed")
    if package is not None and importlib.util.find_spec(package) is None:
        missing(f"the Python package {package} is not installed")


def missing(reason: str) -> NoReturn:
    """Skips the calling test, or fails it in CI, for a component that the machine has not."""
    if os.environ.get("CI"):
        pytest.fail(f"missing in CI: {reason}", pytrace=False)
    pytest.skip(reason, allow_module_level=True)
