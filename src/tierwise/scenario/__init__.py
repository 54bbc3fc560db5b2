"""The scenario language: YAML in, a typed and checked fleet out."""

from tierwise.scenario.document import Problem, ScenarioError
from tierwise.scenario.json_schema import scenario_schema
from tierwise.scenario.loader import load_scenario
from tierwise.scenario.schema import Scenario

__all__ = ["Problem", "Scenario", "ScenarioError", "load_scenario", "scenario_schema"]
