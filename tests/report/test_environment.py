"""The facts of the machine."""

from __future__ import annotations

import platform
from importlib.metadata import version

from tierwise.report.environment import environment_facts


def test_names_the_processor_and_the_versions() -> None:
    facts = environment_facts()
    assert facts["Python"] == platform.python_version()
    assert facts["numpy"] == version("numpy")
    assert "cores" in facts["processor"]
    assert all(facts.values())
