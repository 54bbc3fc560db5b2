"""Every setting of a service: grouped, with its environment variable, its option, its unit and what it is for.

The annotations are the only place where a setting is described. The command line (`serve --help`) and
`docs/settings.md` are made from them.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 -- the annotations are read at run time
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec

from tierwise.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

OFF = "off"
HIGHEST_PORT = 65535


class Setting(NamedTuple):
    """How one field is set from outside."""

    env: str
    option: str
    help: str
    unit: str = ""


class Endpoint(NamedTuple):
    """A host and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which model is served, and how it is executed."""

    path: Annotated[
        Path,
        Setting(
            "MODEL_PATH",
            "--model",
            "An artifact (.onnx, .tflite, .pt, .pth, .pt2, .safetensors) or a folder with model.yaml.",
        ),
    ]
    runtime: Annotated[
        str | None,
        Setting(
            "TIERWISE_RUNTIME",
            "--runtime",
            "By default the one that fits the file and the tier.",
        ),
    ] = None
    threads: Annotated[int, Setting("TIERWISE_THREADS", "--threads", "Threads inside one inference.")] = 1
    trust_pickle: Annotated[
        bool,
        Setting(
            "TIERWISE_TRUST_PICKLE", "--trust-pickle", "Load a pickled PyTorch module, which runs code from the file."
        ),
    ] = False


class MqttSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The MQTT transport."""

    endpoint: Annotated[
        Endpoint | None,
        Setting(
            "TIERWISE_MQTT",
            "--mqtt",
            "Broker as HOST:PORT, or off. MQTT_BROKER_HOST and MQTT_BROKER_PORT set the same.",
        ),
    ] = Endpoint("localhost", 1883)
    request_topic: Annotated[
        str, Setting("TIERWISE_REQUEST_TOPIC", "--request-topic", "Topic on which requests arrive.")
    ] = "ml/inference/request"
    share_group: Annotated[
        str | None,
        Setting(
            "TIERWISE_SHARE_GROUP",
            "--share-group",
            "Group of a shared subscription: replicas of one group divide the requests among themselves.",
        ),
    ] = None
    protocol: Annotated[
        Literal["auto", "5", "3.1.1"],
        Setting(
            "TIERWISE_MQTT_PROTOCOL",
            "--mqtt-protocol",
            "Version of MQTT. auto tries 5 first, which costs 3 s at a start where the broker knows only 3.1.1 and is "
            "silent about it.",
        ),
    ] = "auto"
    username: Annotated[
        str | None, Setting("TIERWISE_MQTT_USERNAME", "--mqtt-username", "User name at the broker.")
    ] = None
    password_file: Annotated[
        Path | None,
        Setting("TIERWISE_MQTT_PASSWORD_FILE", "--mqtt-password-file", "File that holds the password at the broker."),
    ] = None
    tls: Annotated[bool, Setting("TIERWISE_MQTT_TLS", "--mqtt-tls", "Speak TLS to the broker.")] = False
    ca_file: Annotated[
        Path | None,
        Setting(
            "TIERWISE_MQTT_CA_FILE", "--mqtt-ca-file", "Certificate authority of the broker; the system's by default."
        ),
    ] = None


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP transport."""

    endpoint: Annotated[
        Endpoint | None,
        Setting("TIERWISE_HTTP", "--http", "Address to listen on as HOST:PORT, or off; port 0 takes a free one."),
    ] = Endpoint("127.0.0.1", 8080)


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a service takes on before it says no."""

    queue_size: Annotated[
        int, Setting("TIERWISE_QUEUE_SIZE", "--queue-size", "Requests that may be under way; one more is refused.")
    ] = 1000
    max_payload_bytes: Annotated[
        int, Setting("TIERWISE_MAX_PAYLOAD_BYTES", "--max-payload-bytes", "Largest request that is read.", "bytes")
    ] = 1_000_000
    max_connections: Annotated[
        int,
        Setting(
            "TIERWISE_MAX_CONNECTIONS",
            "--max-connections",
            "Open HTTP connections; one more gets 503. /health and /metrics are answered all the same.",
        ),
    ] = 900
    inline_below_ms: Annotated[
        float,
        Setting(
            "TIERWISE_INLINE_BELOW_MS",
            "--inline-below-ms",
            "A model faster than this runs on the event loop, a slower one in a thread of its own.",
            "ms",
        ),
    ] = 1.0
    drain_s: Annotated[
        float,
        Setting(
            "TIERWISE_DRAIN_S", "--drain-s", "Time that requests under way get to finish when the service stops.", "s"
        ),
    ] = 20.0
    hang_s: Annotated[
        float,
        Setting(
            "TIERWISE_HANG_S",
            "--hang-s",
            "A service whose event loop stands still for so long tells where and ends with code 1, to be restarted; "
            "0 for never, else at least 1.",
            "s",
        ),
    ] = 20.0


class DelaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The simulated network between here and the cloud. Zero means none."""

    latency_ms: Annotated[
        float,
        Setting(
            "TIERWISE_CLOUD_LATENCY_MS", "--latency-ms", "One-way delay, added on the way up and on the way down.", "ms"
        ),
    ] = 0.0
    jitter_ms: Annotated[
        float,
        Setting(
            "TIERWISE_CLOUD_JITTER_MS", "--jitter-ms", "Each delay varies evenly by as much as this, up or down.", "ms"
        ),
    ] = 0.0


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a service writes to stderr."""

    level: Annotated[str, Setting("TIERWISE_LOG_LEVEL", "--log-level", "How much is told.")] = "info"
    format: Annotated[
        str,
        Setting(
            "TIERWISE_LOG_FORMAT", "--log-format", "json, text for reading, or auto: text on a terminal, else json."
        ),
    ] = "auto"
    stats_interval_s: Annotated[
        float,
        Setting(
            "TIERWISE_STATS_INTERVAL_S",
            "--stats-interval-s",
            "Time between two lines of latency and throughput; 0 for none.",
            "s",
        ),
    ] = 60.0


class InfluxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of the service in InfluxDB."""

    url: Annotated[str, Setting("TIERWISE_INFLUX", "--influx", "InfluxDB as http(s)://HOST:8086, or off.")] = OFF
    database: Annotated[
        str, Setting("TIERWISE_INFLUX_DB", "--influx-db", "Database, for POST /write (InfluxDB 1, 2 and 3).")
    ] = "tierwise"
    bucket: Annotated[
        str | None,
        Setting(
            "TIERWISE_INFLUX_BUCKET",
            "--influx-bucket",
            "Bucket, for POST /api/v2/write instead of /write. Needs an organisation.",
        ),
    ] = None
    org: Annotated[
        str | None,
        Setting("TIERWISE_INFLUX_ORG", "--influx-org", "Organisation of the bucket; any word where there is none."),
    ] = None
    username: Annotated[
        str | None,
        Setting("TIERWISE_INFLUX_USERNAME", "--influx-username", "User of InfluxDB 1; the token is then the password."),
    ] = None
    token_file: Annotated[
        Path | None,
        Setting(
            "TIERWISE_INFLUX_TOKEN_FILE",
            "--influx-token-file",
            "File that holds the token. TIERWISE_INFLUX_TOKEN, in the environment only, holds the token itself.",
        ),
    ] = None
    ca_file: Annotated[
        Path | None,
        Setting(
            "TIERWISE_INFLUX_CA_FILE",
            "--influx-ca-file",
            "Certificate authority of InfluxDB; the system's by default.",
        ),
    ] = None
    interval_s: Annotated[
        float, Setting("TIERWISE_INFLUX_INTERVAL_S", "--influx-interval-s", "Time between two points of a series.", "s")
    ] = 10.0
    buffer_points: Annotated[
        int,
        Setting(
            "TIERWISE_INFLUX_BUFFER_POINTS",
            "--influx-buffer-points",
            "Points that are kept while InfluxDB is down; then the oldest go.",
        ),
    ] = 10_000


class TracingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests are followed one by one, and where their spans go."""

    ratio: Annotated[
        float,
        Setting(
            "TIERWISE_TRACE_RATIO",
            "--trace-ratio",
            "Share, 0 to 1, of requests without a traceparent that are followed; in others its sampled flag decides.",
        ),
    ] = 0.0
    otlp: Annotated[
        str,
        Setting(
            "TIERWISE_OTLP",
            "--otlp",
            "Receiver of spans as http(s)://HOST:4318/v1/traces, or off. Needs the extra otel; the OTEL_ variables of "
            "OpenTelemetry set the rest.",
        ),
    ] = OFF


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One service."""

    model: ModelSettings
    tier: Annotated[str, Setting("TIERWISE_TIER", "--tier", "Where this service stands.")] = "edge"
    service_id: Annotated[
        str | None,
        Setting(
            "TIERWISE_SERVICE_ID", "--service-id", "Name in the status topic; by default tier, host and random digits."
        ),
    ] = None
    mqtt: MqttSettings = MqttSettings()
    http: HttpSettings = HttpSettings()
    limits: LimitSettings = LimitSettings()
    delay: DelaySettings = DelaySettings()
    log: LogSettings = LogSettings()
    influx: InfluxSettings = InfluxSettings()
    tracing: TracingSettings = TracingSettings()


class Field(NamedTuple):
    """One setting with where it lives: ``path`` is (group, field), or just (field)."""

    path: tuple[str, ...]
    type: Any
    default: Any
    setting: Setting


def fields(struct: type[msgspec.Struct] = ServiceSettings, prefix: tuple[str, ...] = ()) -> Iterator[Field]:
    """All settings in the order in which they are declared."""
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        hint = hints[field.name]
        path = (*prefix, field.name)
        if get_origin(hint) is Annotated:
            kind, setting = get_args(hint)
            yield Field(path, kind, field.default, setting)
        else:
            yield from fields(hint, path)


def build(values: dict[tuple[str, ...], Any]) -> ServiceSettings:
    """Puts values by path together; what is missing keeps its default. Raises ``ConfigurationError``."""
    groups: dict[str, dict[str, Any]] = {"model": {}}
    for (*group, name), value in values.items():
        groups.setdefault(group[0] if group else "", {})[name] = value
    own = groups.pop("", {})
    types = get_type_hints(ServiceSettings)
    try:
        settings = ServiceSettings(**own, **{name: types[name](**group) for name, group in groups.items()})
    except TypeError as error:
        raise ConfigurationError(f"settings are incomplete: {error}") from error
    check(settings)
    return settings


def check(settings: ServiceSettings) -> None:
    """Raises ``ConfigurationError`` for values that no service can run with, all of them at once."""
    problems = []
    if settings.mqtt.endpoint is None and settings.http.endpoint is None:
        problems.append("--mqtt and --http are both off: nobody could ask anything")
    for field in fields():
        value: Any = settings
        for name in field.path:
            value = getattr(value, name)
        problems += problems_of(field, value)
    if bool(settings.influx.bucket) != bool(settings.influx.org):
        problems.append("--influx-bucket and --influx-org belong together: InfluxDB 2 needs both")
    if problems:
        raise ConfigurationError("; ".join(problems))


def problems_of(field: Field, value: Any) -> Iterator[str]:  # noqa: ANN401 -- of any setting
    """What is wrong with one value, whatever the others are. Each begins with the option."""
    allowed = choices(field)
    if allowed and value is not None and value not in allowed:
        yield f"{field.setting.option}: expected {', '.join(allowed)}, got {value!r}"
    if value is not None and field.path in _NO_SIGNS and (not value or set(value) & set(_NO_SIGNS[field.path])):
        yield f"{field.setting.option}: a name without {' '.join(_NO_SIGNS[field.path])} is needed, got {value!r}"
    if field.path in _URLS and not is_url_or_off(value):
        yield f"{field.setting.option}: expected http(s)://HOST[:PORT][/PATH] or '{OFF}'"
    lowest = _LOWEST.get(field.path, 0)
    if field.type in {int, float} and not lowest <= value < float("inf"):
        yield f"{field.setting.option}: expected a number of at least {lowest}, got {value}"
    if field.path in _LOWEST_BUT_ZERO and 0 < value < _LOWEST_BUT_ZERO[field.path]:
        yield f"{field.setting.option}: expected 0 or a number of at least {_LOWEST_BUT_ZERO[field.path]}, got {value}"
    if field.path in _HIGHEST and value > _HIGHEST[field.path]:
        yield f"{field.setting.option}: expected at most {_HIGHEST[field.path]}, got {value}"


def choices(field: Field) -> tuple[str, ...]:
    """The words that a setting may be; empty where it may be anything of its type."""
    return _CHOICES.get(field.path, ())


def is_url_or_off(text: str) -> bool:
    """Whether ``text`` is ``off`` or an address without credentials (which everyone can read in a process list)."""
    try:
        parts = urlsplit(text)
        port = parts.port
        (parts.hostname or "").encode("idna")  # what the resolver does first: no empty label, none above 63 characters
    except ValueError:
        return False
    is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0
    is_plain = text.isascii() and text.isprintable() and not set(text) & set(" @?#")
    return text == OFF or (is_url and is_plain)


_CHOICES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("tier",): ("device", "edge", "cloud"),
    ("log", "level"): ("debug", "info", "warning", "error"),
    ("log", "format"): ("auto", "json", "text"),
    ("mqtt", "protocol"): ("auto", "5", "3.1.1"),
    ("model", "runtime"): ("onnx", "litert", "torch", "tflm"),
}
_NO_SIGNS: dict[tuple[str, ...], str] = {
    ("service_id",): "/+#",
    ("mqtt", "share_group"): "/+#",
    ("mqtt", "request_topic"): "+#",
}
_URLS = {("influx", "url"), ("tracing", "otlp")}
_HIGHEST: dict[tuple[str, ...], float] = {("tracing", "ratio"): 1}
_LOWEST_BUT_ZERO: dict[tuple[str, ...], float] = {("limits", "hang_s"): 1}
"""0 switches off; less than this would end services that only wait for the processor."""
_LOWEST: dict[tuple[str, ...], float] = {
    ("model", "threads"): 1,
    ("limits", "queue_size"): 1,
    ("limits", "max_payload_bytes"): 1,
    ("limits", "max_connections"): 1,
    ("influx", "interval_s"): 0.1,
    ("influx", "buffer_points"): 1,
}
