"""What environment variables say to a service, for whoever writes them down before one starts."""

from __future__ import annotations

import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from tierwise.core.errors import ConfigurationError
from tierwise.core.suggest import did_you_mean
from tierwise.serving.endpoints import parse_endpoint
from tierwise.serving.settings import Endpoint, Field, build, fields, problems_of

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "TIERWISE_"
PORTS: dict[tuple[str, ...], tuple[int, int]] = {("mqtt", "endpoint"): (1883, 1), ("http", "endpoint"): (8080, 0)}
"""Of each endpoint the default port, and the lowest one: a server may take any free port (0), a client may not."""

_WORDS = {"true": True, "1": True, "t": True, "yes": True, "y": True, "on": True,
          "false": False, "0": False, "f": False, "no": False, "n": False, "off": False}  # fmt: skip
"""What click takes for a flag's variable."""
_ONLY_HERE = {"TIERWISE_INFLUX_TOKEN"}
"""Variables without an option: a secret must not stand in a process list."""
_OF_KUBERNETES = ("_SERVICE_HOST", "_SERVICE_PORT", "_PORT")
"""How the variables end that Kubernetes sets for every Service, and ours may be called ``tierwise-…``."""


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A line for each ``TIERWISE_`` variable that no setting reads: mostly a slip of the hand."""
    known = {field.setting.env for field in fields()} | _ONLY_HERE
    strangers = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    return [
        f"{name} is set, but is no setting{did_you_mean(name, known)}; see docs/settings.md"
        for name in strangers
        if not name.endswith(_OF_KUBERNETES) and "_PORT_" not in name
    ]


def problems(environment: Mapping[str, str]) -> list[str]:
    """What a service with these variables would refuse at its start: a line a variable, else what they are together."""
    by_name = {field.setting.env: field for field in fields()}
    found: list[str] = []
    values: dict[tuple[str, ...], Any] = {("model", "path"): Path("model")}
    for name, text in environment.items():
        if (field := by_name.get(name)) is None or not text:
            continue
        try:
            values[field.path] = _value(field, text)
        except ConfigurationError as error:
            found.append(f"{name}: {str(error).removeprefix(f'{name}: ')}")
        else:
            told = problems_of(field, values[field.path])
            found += [f"{name}: {what.removeprefix(f'{field.setting.option}: ')}" for what in told]
    if not found:
        try:
            build(values)
        except ConfigurationError as error:
            found.append(str(error))
    return found


def plain_type(kind: Any) -> Any:  # noqa: ANN401 -- a type
    """The type of a setting that may also be ``None``, or only certain words."""
    if get_origin(kind) is Literal:
        return str
    if get_origin(kind) in {Union, types.UnionType}:
        return next(part for part in get_args(kind) if part is not type(None))
    return kind


def _value(field: Field, text: str) -> Any:  # noqa: ANN401 -- of any setting
    kind = plain_type(field.type)
    if kind is Endpoint:
        default_port, lowest_port = PORTS[field.path]
        return parse_endpoint(text, name=field.setting.env, default_port=default_port, lowest_port=lowest_port)
    try:
        return _WORDS[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError) as error:
        word = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise ConfigurationError(f"expected {word}, got {text!r}") from error
