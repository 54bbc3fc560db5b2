"""Host and port, and which of several ways to name the broker counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tierwise.cli import serve as commands
from tierwise.core.errors import ConfigurationError
from tierwise.serving import logs, service
from tierwise.serving.endpoints import broker_from_environment, parse_endpoint
from tierwise.serving.settings import Endpoint

if TYPE_CHECKING:
    from tierwise.serving.settings import ServiceSettings

DEFAULT = Endpoint("localhost", 1883)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("broker:1884", Endpoint("broker", 1884)),
        ("my_broker.local", Endpoint("my_broker.local", 1883)),
        ("10.0.0.7:65535", Endpoint("10.0.0.7", 65535)),
        ("[::1]:1884", Endpoint("::1", 1884)),
        ("[fe80::1%eth0]", Endpoint("fe80::1%eth0", 1883)),
        ("off", None),
        ("OFF", None),
    ],
)
def test_endpoints(text: str, endpoint: Endpoint | None) -> None:
    assert parse_endpoint(text, name="--mqtt", default_port=1883) == endpoint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected HOST:PORT or 'off', got ''"),
        ("8080", "a port needs its host, as in 127.0.0.1:8080"),
        (":1883", "expected HOST:PORT or 'off', got ':1883'"),
        ("a:b:c:d:", "expected HOST:PORT or 'off', got 'a:b:c:d:'"),
        ("[broker]:1883", "expected HOST:PORT"),
        ("[::1]1883", "expected HOST:PORT"),
        ("bro ker:1883", "expected HOST:PORT"),
        ("broker/path:1883", "expected HOST:PORT"),
        ("mqtt://localhost:1883", "leave out 'mqtt://'"),
        ("MQTTS://localhost:8883/", "leave out 'MQTTS://'"),
        ("::1", "write an IPv6 address in brackets"),
        ("fe80::1:1883", "write an IPv6 address in brackets"),
        ("host:port", "expected a port from 1 to 65535, got 'port'"),
        ("host:", "expected a port from 1 to 65535, got ''"),
        ("host:0", "expected a port from 1 to 65535, got '0'"),
        ("host:70000", "expected a port"),
        ("host:-1", "expected a port"),
        ("host:²", "expected a port"),
        ("host:" + "9" * 5000, "expected a port"),
    ],
)
def test_what_is_no_endpoint_is_told_with_where_and_what_to_do(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        parse_endpoint(text, name="--mqtt", default_port=1883)
    assert str(told.value).startswith("--mqtt: ")
    assert said in str(told.value)


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match=r"--mqtt: .*without user and password") as told:
        parse_endpoint("mqtt://me:s3cret@broker:1883", name="--mqtt", default_port=1883)
    assert "s3cret" not in str(told.value)


def test_a_server_may_take_any_free_port() -> None:
    assert parse_endpoint("0.0.0.0:0", name="--http", default_port=1, lowest_port=0) == Endpoint("0.0.0.0", 0)


def test_an_endpoint_reads_as_it_is_written() -> None:
    assert str(Endpoint("::1", 80)) == "[::1]:80"
    assert str(Endpoint("edge", 80)) == "edge:80"


@pytest.mark.parametrize(
    ("host", "port", "broker"),
    [
        ("", "", DEFAULT),
        ("broker", "", Endpoint("broker", 1883)),
        ("", "1999", Endpoint("localhost", 1999)),
        ("::1", "1999", Endpoint("::1", 1999)),
        ("[::1]", "", Endpoint("::1", 1883)),
        ("broker", "tcp://10.0.0.1:1999", Endpoint("broker", 1999)),
        ("broker", "tcp://[fd00::1]:1999", Endpoint("broker", 1999)),
    ],
)
def test_the_broker_in_the_environment(host: str, port: str, broker: Endpoint) -> None:
    assert broker_from_environment({"MQTT_BROKER_HOST": host, "MQTT_BROKER_PORT": port}, DEFAULT) == broker


@pytest.mark.parametrize("port", ["0", "x", "tcp://10.0.0.1:70000", "udp://10.0.0.1:1883", "-1"])
def test_a_wrong_port_in_the_environment_names_its_variable(port: str) -> None:
    with pytest.raises(ConfigurationError, match="MQTT_BROKER_PORT: expected a port from 1 to 65535"):
        broker_from_environment({"MQTT_BROKER_PORT": port}, DEFAULT)


@pytest.mark.parametrize("host", ["tcp://10.0.0.1", "broker:1883", "a b"])
def test_a_wrong_host_in_the_environment_names_its_variable(host: str) -> None:
    with pytest.raises(ConfigurationError, match="MQTT_BROKER_HOST: expected a host"):
        broker_from_environment({"MQTT_BROKER_HOST": host}, DEFAULT)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[ServiceSettings]:
    """Settings with which services would have been started."""
    settings: list[ServiceSettings] = []
    monkeypatch.setattr(service, "run_service", settings.append)
    monkeypatch.setattr(logs, "configure_logging", lambda _: None)
    return settings


def broker_of(started: list[ServiceSettings], *options: str, **env: str | None) -> Endpoint | None:
    given: dict[str, Any] = {"MODEL_PATH": "x.onnx"} | env
    result = CliRunner().invoke(commands.serve, options, env=given, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return started.pop().mqtt.endpoint


def test_the_option_comes_before_the_variable_before_the_brokers_variables_before_the_default(
    started: list[ServiceSettings],
) -> None:
    env: dict[str, str | None] = dict.fromkeys(("TIERWISE_MQTT", "MQTT_BROKER_HOST", "MQTT_BROKER_PORT"))
    assert broker_of(started, **env) == DEFAULT
    env |= {"MQTT_BROKER_HOST": "third", "MQTT_BROKER_PORT": "3"}
    assert broker_of(started, **env) == Endpoint("third", 3)
    env |= {"TIERWISE_MQTT": "second:2"}
    assert broker_of(started, **env) == Endpoint("second", 2)
    assert broker_of(started, "--mqtt", "first:1", **env) == Endpoint("first", 1)


def test_what_kubernetes_sets_for_a_service_named_mqtt_broker_disturbs_nobody(started: list[ServiceSettings]) -> None:
    env = {"MQTT_BROKER_PORT": "tcp://10.0.0.1:1884", "MQTT_BROKER_SERVICE_HOST": "10.0.0.1"}
    assert broker_of(started, "--mqtt", "off", **env) is None
    assert broker_of(started, "--mqtt", "broker", **env) == Endpoint("broker", 1883)
    assert broker_of(started, **env) == Endpoint("localhost", 1884)
    assert broker_of(started, "--mqtt", "off", MQTT_BROKER_PORT="nonsense") is None


@pytest.mark.parametrize(
    ("options", "env", "said"),
    [
        (["--mqtt", "a/b"], {}, "--mqtt: expected HOST:PORT"),
        ([], {"TIERWISE_MQTT": "a/b"}, "TIERWISE_MQTT: expected HOST:PORT"),
        ([], {"TIERWISE_MQTT": "broker:0"}, "TIERWISE_MQTT: expected a port from 1"),
        (["--http", "a/b"], {}, "--http: expected HOST:PORT"),
        ([], {"TIERWISE_HTTP": "a:b"}, "TIERWISE_HTTP: expected a port from 0"),
    ],
)
def test_an_error_names_the_option_or_the_variable(options: list[str], env: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        CliRunner().invoke(commands.serve, options, env={"MODEL_PATH": "x.onnx", **env}, catch_exceptions=False)
