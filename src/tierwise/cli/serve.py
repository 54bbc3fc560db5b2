"""``tierwise serve`` and ``tierwise cloud``: one service, two sets of defaults."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import click

from tierwise.serving.endpoints import broker_from_environment, parse_endpoint
from tierwise.serving.environment import PORTS, plain_type, unknown_variables
from tierwise.serving.settings import OFF, Endpoint, Field, ServiceSettings, build, choices, fields

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

MQTT = "mqtt__endpoint"


class EndpointType(click.ParamType[Endpoint | str]):
    """``HOST:PORT`` or ``off``, which stays a word: for click, ``None`` would mean that nothing was given."""

    name = "host:port"

    def __init__(self, default_port: int, lowest_port: int) -> None:
        self.default_port = default_port
        self.lowest_port = lowest_port

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Endpoint | str:  # noqa: ANN401 -- click
        """Raises ``ConfigurationError`` that begins with the option or the variable, whichever it came from."""
        if isinstance(value, Endpoint):
            return value
        name = _origin(param, ctx)
        endpoint = parse_endpoint(value, name=name, default_port=self.default_port, lowest_port=self.lowest_port)
        return OFF if endpoint is None else endpoint


def _origin(param: click.Parameter | None, ctx: click.Context | None) -> str:
    if param is None or ctx is None:
        return "endpoint"
    from_environment = ctx.get_parameter_source(param.name) is click.core.ParameterSource.ENVIRONMENT
    return str(param.envvar) if from_environment else param.opts[0]


def setting_option(field: Field, default: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:  # noqa: ANN401 -- of any setting
    """The option of one setting, which also reads its environment variable."""
    kind = plain_type(field.type)
    options: dict[str, Any] = {"envvar": field.setting.env, "help": field.setting.help, "show_envvar": True}
    if isinstance(default, Endpoint):
        default = str(default)
    if field.path == ("model", "path"):
        options |= {"required": True}
    elif default is not None and default is not False:
        options |= {"default": default, "show_default": True}
    if kind is bool:
        options |= {"is_flag": True}
    elif kind is Endpoint:
        options |= {"type": EndpointType(*PORTS[field.path])}
    elif kind is Path:
        options |= {"type": click.Path(path_type=Path)}
    elif words := choices(field):
        options |= {"type": click.Choice(words)}
    else:
        options |= {"type": kind}
    return click.option(field.setting.option, ".".join(field.path).replace(".", "__"), **options)


class GroupedCommand(click.Command):
    """Help with a section for each group of settings, titled by what the group is."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options in the order of the settings; help itself comes last."""
        titles = {name: (kind.__doc__ or name) for name, kind in get_type_hints(ServiceSettings).items()}
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            group, separator, _ = (param.name or "").partition("__")
            record = param.get_help_record(ctx)
            if record is not None:
                title = titles[group].splitlines()[0].rstrip(".") if separator else "The service"
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def service_options(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:  # noqa: ANN401 -- values of any setting
    """All settings as options; ``defaults`` replaces some (``group__field=value``)."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for field in reversed(list(fields())):
            command = setting_option(field, defaults.get("__".join(field.path), field.default))(command)
        return command

    return decorate


def given_values(options: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    """Values of settings by their path, from the options of this command that were made of settings.

    Without an option or a variable for the broker it is that of ``MQTT_BROKER_HOST`` and ``MQTT_BROKER_PORT``.
    """
    source = click.get_current_context().get_parameter_source(MQTT)
    if source is click.core.ParameterSource.DEFAULT:
        options[MQTT] = broker_from_environment(os.environ, options[MQTT])
    values = {tuple(name.split("__")): value for name, value in options.items()}
    return {path: None if path in PORTS and value == OFF else value for path, value in values.items()}


def _run(options: dict[str, Any]) -> None:
    # Heavy imports (numpy, uvicorn, a runtime) belong to the command, not to `--help`.
    from tierwise.serving.logs import configure_logging  # noqa: PLC0415
    from tierwise.serving.service import run_service  # noqa: PLC0415

    settings = build(given_values(options))
    configure_logging(settings.log)
    for line in unknown_variables(os.environ):
        log.warning(line)
    run_service(settings)


@click.command(
    cls=GroupedCommand,
    epilog="Example:  tierwise serve --model models/digits --mqtt localhost:1883 --http 0.0.0.0:8080",
)
@service_options()
def serve(**options: Any) -> None:  # noqa: ANN401 -- values of any setting
    """Serve a model over MQTT and HTTP until SIGTERM or Ctrl-C.

    Requests arrive on the MQTT topic ml/inference/request and at POST /predict.
    """
    _run(options)


@click.command(
    cls=GroupedCommand,
    epilog="Example:  tierwise cloud --model models/digits --request-topic ml/cloud/inference/request",
)
@service_options(tier="cloud", delay__latency_ms=50.0, http__endpoint="off")
def cloud(**options: Any) -> None:  # noqa: ANN401 -- values of any setting
    """Serve a model as the cloud tier: PyTorch, behind a simulated network delay.

    Answers carry cloud_latency_ms (both ways, configured) and total_latency_ms.
    """
    _run(options)
