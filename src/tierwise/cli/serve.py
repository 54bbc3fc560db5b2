"""``tierwise serve`` and ``tierwise cloud``: one service, two sets of defaults."""

from __future__ import annotations

import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

import click

from tierwise.serving.settings import Endpoint, Field, build, fields, parse_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_PORTS: dict[tuple[str, ...], int] = {("mqtt", "endpoint"): 1883, ("http", "endpoint"): 8080}


class EndpointType(click.ParamType[str]):
    """``HOST:PORT`` or ``off``."""

    name = "host:port"

    def __init__(self, default_port: int) -> None:
        self.default_port = default_port

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401 -- click
        """Checks the form; the parsed endpoint is made later, when None can no longer mean 'not given'."""
        del param, ctx
        parse_endpoint(str(value), default_port=self.default_port)
        return str(value)


def _option(field: Field, default: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:  # noqa: ANN401 -- of any setting
    kind = _plain(field.type)
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
        options |= {"type": EndpointType(DEFAULT_PORTS[field.path])}
    elif kind is Path:
        options |= {"type": click.Path(path_type=Path)}
    else:
        options |= {"type": kind}
    return click.option(field.setting.option, ".".join(field.path).replace(".", "__"), **options)


def _plain(kind: Any) -> Any:  # noqa: ANN401 -- a type
    if get_origin(kind) in {Union, types.UnionType}:
        return next(part for part in get_args(kind) if part is not type(None))
    return kind


def service_options(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:  # noqa: ANN401 -- values of any setting
    """All settings as options; ``defaults`` replaces some (``group__field=value``)."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for field in reversed(list(fields())):
            command = _option(field, defaults.get("__".join(field.path), field.default))(command)
        command = click.option("--mqtt-host", envvar="MQTT_BROKER_HOST", hidden=True)(command)
        return click.option("--mqtt-port", envvar="MQTT_BROKER_PORT", type=click.IntRange(1, 65535), hidden=True)(
            command
        )

    return decorate


def _run(options: dict[str, Any]) -> None:
    # Heavy imports (numpy, uvicorn, a runtime) belong to the command, not to `--help`.
    from tierwise.serving.logs import configure_logging  # noqa: PLC0415
    from tierwise.serving.service import run_service  # noqa: PLC0415

    host, port = options.pop("mqtt_host"), options.pop("mqtt_port")
    endpoint = parse_endpoint(options["mqtt__endpoint"], default_port=1883)
    source = click.get_current_context().get_parameter_source("mqtt__endpoint")
    if endpoint is not None and source is click.core.ParameterSource.DEFAULT:
        endpoint = Endpoint(host or endpoint.host, port or endpoint.port)
    options["mqtt__endpoint"] = endpoint
    options["http__endpoint"] = parse_endpoint(options["http__endpoint"], default_port=8080)
    settings = build({tuple(name.split("__")): value for name, value in options.items()})
    configure_logging(settings.log)
    run_service(settings)


@click.command
@service_options()
def serve(**options: Any) -> None:  # noqa: ANN401 -- values of any setting
    """Serve a model over MQTT and HTTP until SIGTERM.

    Requests arrive on the MQTT topic ml/inference/request and at POST /predict.
    """
    _run(options)


@click.command
@service_options(tier="cloud", delay__latency_ms=50.0, http__endpoint="off")
def cloud(**options: Any) -> None:  # noqa: ANN401 -- values of any setting
    """Serve a model as the cloud tier: PyTorch, behind a simulated network delay.

    Answers carry cloud_latency_ms (both ways, configured) and total_latency_ms.
    """
    _run(options)
