"""Settings: one description for environment, options and documentation."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from tierwise.core.errors import ConfigurationError
from tierwise.serving.service import own_id
from tierwise.serving.settings import build, fields

MODEL: dict[tuple[str, ...], Any] = {("model", "path"): Path("model.onnx")}


def test_what_is_not_given_keeps_its_default() -> None:
    settings = build({**MODEL, ("tier",): "cloud", ("limits", "queue_size"): 7})
    assert settings.tier == "cloud"
    assert settings.limits.queue_size == 7
    assert settings.limits.max_payload_bytes == 1_000_000
    assert settings.mqtt.request_topic == "ml/inference/request"


def test_all_wrong_values_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as told:
        build(
            {
                **MODEL,
                ("tier",): "fog",
                ("mqtt", "endpoint"): None,
                ("http", "endpoint"): None,
                ("mqtt", "request_topic"): "a/#",
                ("mqtt", "share_group"): "a/b",
                ("service_id",): "",
                ("limits", "queue_size"): 0,
                ("delay", "latency_ms"): -1.0,
                ("limits", "drain_s"): float("inf"),
                ("limits", "hang_s"): 0.001,
                ("log", "level"): "loud",
                ("log", "format"): "xml",
            }
        )
    message = str(told.value)
    for part in (
        "--tier: expected device, edge, cloud, got 'fog'",
        "nobody could ask anything",
        "--request-topic",
        "--share-group",
        "--service-id",
        "--queue-size: expected a number of at least 1, got 0",
        "--latency-ms",
        "--drain-s",
        "--hang-s: expected 0 or a number of at least 1, got 0.001",
        "--log-level",
        "--log-format",
    ):
        assert part in message


def test_a_missing_model_is_told() -> None:
    with pytest.raises(ConfigurationError, match="path"):
        build({})


def test_every_setting_has_its_own_names_and_says_what_it_is_for() -> None:
    described = [field.setting for field in fields()]
    assert len({setting.env for setting in described}) == len(described)
    assert len({setting.option for setting in described}) == len(described)
    for setting in described:
        assert setting.env.isupper()
        assert setting.option.startswith("--")
        assert setting.help.endswith(".")


@pytest.mark.parametrize(
    "url", ["off", "http://influx:8086", "https://influx.example/prefix", "http://[::1]:8086", "http://10.0.0.7"]
)
def test_addresses_of_other_services(url: str) -> None:
    assert build({**MODEL, ("influx", "url"): url}).influx.url == url


@pytest.mark.parametrize(
    "url",
    ["", "influx:8086", "ftp://influx", "http://", "http://influx:0x", "http://influx:99999", "http://u:s3cret@influx",
     "http://influx/write?p=s3cret", "http://influx/#", "http://in flux", "http://a..b:8086",
     "http://influx/\r\nX: s3cret"],
)  # fmt: skip
def test_an_address_that_is_none_or_carries_a_secret_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--influx: expected http\(s\)://HOST") as told:
        build({**MODEL, ("influx", "url"): url})
    assert "s3cret" not in str(told.value)


def test_a_share_of_traced_requests_is_at_most_all() -> None:
    with pytest.raises(ConfigurationError, match="--trace-ratio"):
        build({**MODEL, ("tracing", "ratio"): 1.5})


def test_the_name_that_a_service_gives_itself_is_its_own_also_where_all_are_process_1() -> None:
    names = {own_id("edge") for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(f"edge-{socket.gethostname().split('.')[0]}-") for name in names)
