"""The whole demo: real broker, real services, real signals. Latency is never judged: machines differ."""

from __future__ import annotations

import os
import re
import shutil
import signal
from importlib import resources
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np
import pytest
from tests.components import need
from tests.conftest import TRAINING_PACKAGES
from tests.integration.demo_process import demo
from tests.report.browser import visit
from tests.waiting import until

from tierwise.core.trace import TraceRow, read_trace_csv
from tierwise.device.boards import load_board
from tierwise.live.broker import PrivateBroker, private_broker
from tierwise.live.processes import free_port
from tierwise.messaging.connection import MqttConnection
from tierwise.messaging.settings import MqttConnectionSettings
from tierwise.models.card import load_card, save_card
from tierwise.report.summary import TierFacts, as_json, summarise

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from mqtt5 import PublishPacket

pytestmark = pytest.mark.usefixtures("components")


@pytest.fixture
def components() -> None:
    """All tiers must be able to run."""
    for program in ("mosquitto", "arm-none-eabi-gcc", "qemu-system-arm"):
        need(program=program)
    for package in TRAINING_PACKAGES:
        need(package=package)


@pytest.fixture
async def broker() -> AsyncIterator[PrivateBroker]:
    """A broker that others use too, as far as the demo knows."""
    async with private_broker() as running:
        yield running


class Eavesdropper:
    """Hears every topic of a broker."""

    def __init__(self, broker: PrivateBroker) -> None:
        self.heard: list[tuple[str, bytes, bool]] = []
        where = MqttConnectionSettings(host=broker.host, port=broker.port)
        self.connection = MqttConnection(where, on_message=self._on_message)

    def _on_message(self, packet: PublishPacket, acknowledge: Callable[[], None]) -> None:
        acknowledge()
        self.heard.append((packet.topic, packet.payload, packet.retain))

    async def __aenter__(self) -> Self:
        await self.connection.start()
        await self.connection.wait_connected(10)
        await self.connection.subscribe("#")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.stop()

    def answers(self, tier: str = "") -> int:
        told = f'"tier":"{tier}'.encode()
        return sum(topic.startswith("ml/inference/result/") and told in payload for topic, payload, _ in self.heard)


def figures_of(rows: list[TraceRow], figures: dict[str, Any]) -> dict[str, Any]:
    """What the trace alone says, with the facts of the tiers from the printed figures."""
    known = {
        name: TierFacts(tier["runtime"], tier["artifact"], tier["basis"], tier["board"], tier["instructions"])
        for name, tier in figures["tiers"].items()
    }
    return as_json(summarise(rows, facts=known))


async def test_one_model_answers_on_the_device_at_the_edge_and_in_the_cloud(
    anomaly_detector: Path, tmp_path: Path
) -> None:
    async with demo(
        "--json", "--model", anomaly_detector, "--requests", "80", "--latency-ms", "20", cwd=tmp_path
    ) as run:
        code, output, errors = await run.finish()
        await run.leaves_nothing()
    assert code == 0, errors
    assert errors == ""
    figures = msgspec.json.decode(output)

    assert figures["model"] == "anomaly-detector"
    assert figures["agreement"] >= 0.99
    assert list(figures["tiers"]) == ["device", "edge", "cloud"]
    assert len({tuple(tier) for tier in figures["tiers"].values()}) == 1, "every tier has the same keys"
    for tier in figures["tiers"].values():
        assert (tier["requests"], tier["answered"], tier["errors"]) == (80, 80, 0)
        assert tier["accuracy"] > 0.85
    device, edge, cloud = figures["tiers"].values()
    for tier in (edge, cloud):
        assert 0 < tier["network_share"] < 1
        assert 0 < tier["inference_ms"]["p50"] <= tier["inference_ms"]["p95"] <= tier["inference_ms"]["p99"]
        assert tier["inference_ms"]["p50"] < tier["end_to_end_ms"]["p50"]
        assert tier["bytes_per_request"] > 100
        assert (tier["basis"], tier["board"], tier["energy_mj"], tier["instructions"]) == ("measured", None, None, None)
    assert edge["network_share_configured"] == 0
    assert cloud["configured_delay_ms"] == pytest.approx(40)
    assert cloud["end_to_end_ms"]["p50"] >= 40
    assert cloud["network_share_configured"] > 0
    assert (edge["runtime"], cloud["runtime"], device["runtime"]) == ("onnx", "torch", "firmware")
    assert (device["basis"], device["board"]) == ("modelled", "nucleo-l4r5zi")
    assert (device["network_share"], device["bytes_per_request"]) == (0, 0)
    assert device["end_to_end_ms"] == device["inference_ms"]
    board = load_board("nucleo-l4r5zi")
    assert device["inference_ms"]["p50"] == pytest.approx(board.latency_ms(device["instructions"]), rel=1e-3)
    assert device["energy_mj"] == pytest.approx(board.energy_mj(device["instructions"]), rel=1e-3)
    assert device["inference_ms"]["p99"] < 0.1, "of the board, not of the emulator"

    rows = read_trace_csv(tmp_path / figures["files"]["trace"])
    assert figures_of(rows, figures).items() <= figures.items()
    for row in rows:
        assert row.arrived_us is not None
        assert row.started_us is not None
        assert row.finished_us is not None
        assert row.answered_us is not None
        assert row.arrived_us <= row.started_us <= row.finished_us
        assert row.created_us < row.answered_us
        assert (row.energy_device_j is not None) == (row.tier == "device")
    page = tmp_path / figures["files"]["report"]
    seen = visit(page)
    assert 'data-plots="3"' in seen.dom
    assert seen.console == seen.requests == []


async def test_digits_on_litert_with_a_table_for_people(digits: Path, tmp_path: Path) -> None:
    arguments = ("--model", digits, "--requests", "30", "--edge-runtime", "litert", "--latency-ms", "0")
    async with demo(*arguments, "--out", "here", cwd=tmp_path) as run:
        code, output, errors = await run.finish()
    assert code == 0, errors
    assert "\x1b" not in output + errors, "a pipe gets neither colours nor progress"
    assert re.search(r"accuracy( +(\d+\.\d|100) %){3}", output)
    assert "Times and energy are modelled for nucleo-l4r5zi" in " ".join(output.split())
    assert output.count("All of it was measured") == 2, "without a configured delay nothing is called configured"
    assert "Device, edge and cloud gave the same label on all 30 samples." in output
    assert {path.name for path in (tmp_path / "here").iterdir()} >= {"trace.csv", "report.html"}
    labels = {row.label for row in read_trace_csv(tmp_path / "here" / "trace.csv")}
    assert labels <= set("0123456789")
    assert len(labels) > 5


async def test_a_model_that_is_not_there_is_created_once(tmp_path: Path) -> None:
    arguments = ("--json", "--requests", "5", "--models", tmp_path / "kept")
    versions = []
    for _ in range(2):
        async with demo(*arguments, cwd=tmp_path) as run:
            code, output, errors = await run.finish()
        assert code == 0, errors
        assert msgspec.json.decode(output)["model"] == "anomaly-detector"
        versions.append((tmp_path / "kept" / "anomaly-detector" / "model.yaml").stat().st_mtime_ns)
    assert versions[0] == versions[1]


async def test_the_users_broker_is_left_as_it_was(
    anomaly_detector: Path, broker: PrivateBroker, tmp_path: Path
) -> None:
    address = f"{broker.host}:{broker.port}"
    async with Eavesdropper(broker) as ear:
        async with demo("--model", anomaly_detector, "--requests", "5", "--mqtt", address, cwd=tmp_path) as run:
            code, _, errors = await run.finish()
        assert code == 0, errors
        requests = {topic for topic, _, _ in ear.heard if topic.endswith("request") or "/request/" in topic}
        assert len(requests) == 3
        others = {"ml/inference/request", "ml/cloud/inference/request", "ml/device/inference/request"}
        assert not requests & others, "others listen there"
    async with Eavesdropper(broker) as later:
        # What we publish ourselves comes after everything that the broker has kept.
        await later.connection.publish_and_wait("the/end", b"")
        await until(lambda: any(topic == "the/end" for topic, _, _ in later.heard))
    assert [topic for topic, _, retained in later.heard if retained and topic.startswith("tierwise/demo")] == []


async def test_a_tier_that_dies_is_seen_as_errors(
    anomaly_detector: Path, broker: PrivateBroker, tmp_path: Path
) -> None:
    address = f"{broker.host}:{broker.port}"
    arguments = ("--json", "--model", anomaly_detector, "--requests", "1000", "--rate", "100", "--mqtt", address)
    async with Eavesdropper(broker) as ear, demo(*arguments, cwd=tmp_path) as run:
        await until(lambda: ear.answers("edge") >= 10, timeout_s=180)
        victim = run.running("--tier", "edge")
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        code, output, errors = await run.finish()
        await run.leaves_nothing()
    figures = msgspec.json.decode(output)
    edge, cloud = figures["tiers"]["edge"], figures["tiers"]["cloud"]

    assert code == 1
    assert "edge service ended with code -9" in errors
    assert edge["answered"] > 0
    assert edge["errors_by_outcome"] == {"timeout": edge["errors"]}
    assert edge["answered"] + edge["errors"] == 1000
    assert edge["errors"] > 0
    assert (cloud["answered"], cloud["errors"]) == (1000, 0)
    assert (tmp_path / "demo" / "report.html").exists()


async def test_the_devices_answers_are_those_of_the_int8_model_bit_for_bit(
    anomaly_detector: Path, tmp_path: Path
) -> None:
    need(package="tflite_micro")
    from tierwise.runtimes import load_runtime  # noqa: PLC0415 - a component that may be missing

    async with demo("--json", "--model", anomaly_detector, "--requests", "100", cwd=tmp_path) as run:
        code, _, errors = await run.finish()
    assert code == 0, errors
    oracle = load_runtime(anomaly_detector / "anomaly-detector-int8.tflite", runtime="tflm")
    [name] = [spec.name for spec in oracle.signature.inputs]
    features = np.load(anomaly_detector / "samples.npz")["features"]
    rows = [row for row in read_trace_csv(tmp_path / "demo" / "trace.csv") if row.tier == "device"]
    assert len(rows) == 100
    for row in rows:
        sample = features[int(row.request_id.rpartition("-")[2])][None]
        [expected] = oracle.run({name: sample})
        assert float(row.prediction or "nan") == float(expected.ravel()[0])


def only(folder: Path, *programs: str) -> str:
    """A PATH on which there are these programs and no others."""
    folder.mkdir()
    for program in programs:
        need(program=program)
        (folder / program).symlink_to(shutil.which(program) or "")
    return str(folder)


async def test_without_any_compiler_there_are_two_tiers_and_a_word_on_what_to_install(
    anomaly_detector: Path, tmp_path: Path
) -> None:
    path = only(tmp_path / "bin", "mosquitto")
    arguments = ("--json", "--model", anomaly_detector, "--requests", "10")
    async with demo(*arguments, cwd=tmp_path, PATH=path, CC="") as run:
        code, output, errors = await run.finish()
    assert code == 0, errors
    figures = msgspec.json.decode(output)
    assert list(figures["tiers"]) == ["edge", "cloud"]
    assert errors == ""
    note = figures["left_out"]["device"]
    assert "gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm, or a C compiler" in note
    assert note in (tmp_path / figures["files"]["report"]).read_text(encoding="utf-8")


async def test_with_a_host_compiler_only_the_answers_are_real_and_no_time_is_told(
    anomaly_detector: Path, tmp_path: Path
) -> None:
    path = only(tmp_path / "bin", "mosquitto", "cc", "as", "ld")
    arguments = ("--json", "--model", anomaly_detector, "--requests", "10")
    async with demo(*arguments, cwd=tmp_path, PATH=path, CC="cc") as run:
        code, output, errors = await run.finish()
        await run.leaves_nothing()
    assert code == 0, errors
    device = msgspec.json.decode(output)["tiers"]["device"]
    assert (device["answered"], device["errors"], device["runtime"]) == (10, 0, "host build")
    assert device["accuracy"] > 0.7
    assert device["inference_ms"] == device["end_to_end_ms"] == {"p50": None, "p95": None, "p99": None}
    assert device["energy_mj"] is device["instructions"] is None
    rows = [row for row in read_trace_csv(tmp_path / "demo" / "trace.csv") if row.tier == "device"]
    assert {(row.answered_us, row.inference_us, row.energy_device_j) for row in rows} == {(None, None, None)}


async def test_the_device_can_be_left_out(anomaly_detector: Path, tmp_path: Path) -> None:
    arguments = ("--json", "--model", anomaly_detector, "--requests", "5", "--no-device")
    async with demo(*arguments, cwd=tmp_path) as run:
        code, output, errors = await run.finish()
    assert (code, errors) == (0, "")
    assert list(msgspec.json.decode(output)["tiers"]) == ["edge", "cloud"]


async def test_a_model_without_an_int8_form_has_no_device(anomaly_detector: Path, tmp_path: Path) -> None:
    folder = tmp_path / "float-only"
    shutil.copytree(anomaly_detector, folder)
    card = load_card(folder)
    floats = tuple(artifact for artifact in card.artifacts if artifact.dtype != "int8")
    save_card(msgspec.structs.replace(card, artifacts=floats), folder)
    async with demo("--json", "--model", folder, "--requests", "5", cwd=tmp_path) as run:
        code, output, errors = await run.finish()
    assert code == 0
    assert errors == ""
    figures = msgspec.json.decode(output)
    assert list(figures["tiers"]) == ["edge", "cloud"]
    assert figures["left_out"]["device"].startswith("anomaly-detector has no int8 .tflite: docs/models.md shows how")


async def test_a_board_that_is_too_small_is_said_with_the_numbers(anomaly_detector: Path, tmp_path: Path) -> None:
    profile = resources.files("tierwise.device").joinpath("profiles", "nucleo-l4r5zi.yaml").read_text(encoding="utf-8")
    (tmp_path / "tiny.yaml").write_text(profile.replace("flash_bytes: 2097152", "flash_bytes: 4096"), encoding="utf-8")
    arguments = ("--json", "--model", anomaly_detector, "--requests", "5", "--board", "tiny.yaml")
    async with demo(*arguments, cwd=tmp_path) as run:
        code, output, errors = await run.finish()
        await run.leaves_nothing()
    assert code == 0
    assert errors == ""
    figures = msgspec.json.decode(output)
    assert re.search(r"needs [\d,]+ bytes of flash, nucleo-l4r5zi has 4,096", figures["left_out"]["device"])
    assert list(figures["tiers"]) == ["edge", "cloud"]


async def test_an_int8_file_that_was_changed_is_refused(anomaly_detector: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(anomaly_detector, folder)
    file = folder / "anomaly-detector-int8.tflite"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    async with demo("--model", folder, cwd=tmp_path) as run:
        code, output, errors = await run.finish()
        await run.leaves_nothing()
    assert code != 0
    assert output == ""
    assert "not the file that the card" in errors
    assert "Traceback" not in errors


async def test_a_service_that_does_not_start_says_why(anomaly_detector: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(anomaly_detector, folder)
    for file in folder.glob("*.onnx"):
        file.write_bytes(file.read_bytes()[:100])
    async with demo("--model", folder, cwd=tmp_path) as run:
        code, output, errors = await run.finish()
        await run.leaves_nothing()
    assert code == 1
    assert output == ""
    assert "edge service ended with code 2" in errors
    assert ".onnx" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--model", "no-such-model"), 2, "neither one of anomaly-detector, digits nor a model file"),
        (("--requests", "0"), 2, "--requests: at least 1"),
        (("--rate", "nan"), 2, "--rate"),
        (("--latency-ms", "-1"), 2, "--latency-ms"),
        (("--mqtt", "off"), 2, "--mqtt off"),
        (("--mqtt", "a:b"), 2, "--mqtt: expected a port"),
        (("--edge-runtime", "torch"), 2, "edge-runtime"),
        (("--out", "/proc/nowhere"), 2, "--out"),
        (("--board", "toaster"), 2, "--board: unknown board 'toaster'"),
    ],
)
async def test_bad_options_are_named(arguments: tuple[str, ...], code: int, words: str, tmp_path: Path) -> None:
    async with demo(*arguments, cwd=tmp_path) as run:
        ended, output, errors = await run.finish()
    assert ended == code
    assert words in errors
    assert "Traceback" not in errors
    assert output == ""


async def test_a_broker_out_of_reach_is_one_clear_line(anomaly_detector: Path, tmp_path: Path) -> None:
    port = free_port()
    async with demo("--model", anomaly_detector, "--mqtt", f"127.0.0.1:{port}", cwd=tmp_path) as run:
        code, _, errors = await run.finish()
        await run.leaves_nothing()
    assert code == 1
    assert f"cannot reach the MQTT broker at 127.0.0.1:{port}" in errors
    assert "Traceback" not in errors


PHASES = {
    "training": ("tierwise.live.training",),
    "broker": ("mosquitto", "-c"),
    "edge service": ("--tier", "edge"),
    "cloud service": ("--tier", "cloud"),
    "compiler": ("arm-none-eabi-gcc",),
    "device": ("qemu-system-arm",),
}


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
@pytest.mark.parametrize("phase", PHASES)
async def test_interrupted_at_any_phase_it_leaves_nothing(
    phase: str, number: signal.Signals, expected: int, anomaly_detector: Path, tmp_path: Path
) -> None:
    model = () if phase == "training" else ("--model", anomaly_detector)
    async with demo(*model, cwd=tmp_path) as run:
        await until(lambda: run.running(*PHASES[phase]) is not None, timeout_s=120)
        run.process.send_signal(number)
        code, _, errors = await run.finish()
        await run.leaves_nothing()
    assert code == expected, errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_interrupted_between_requests_it_leaves_nothing(
    number: signal.Signals, anomaly_detector: Path, broker: PrivateBroker, tmp_path: Path
) -> None:
    address = f"{broker.host}:{broker.port}"
    arguments = ("--model", anomaly_detector, "--requests", "100000", "--mqtt", address)
    async with Eavesdropper(broker) as ear, demo(*arguments, cwd=tmp_path) as run:
        await until(lambda: ear.answers() >= 20, timeout_s=180)
        run.process.send_signal(number)
        code, _, errors = await run.finish()
        await run.leaves_nothing()
        if number is signal.SIGINT:
            last = {topic: payload for topic, payload, _ in ear.heard if topic.startswith("tierwise/demo")}
            assert set(last.values()) == {b""}, "the services said goodbye and their status was removed"
    assert code == (130 if number is signal.SIGINT else -number)
    assert "Traceback" not in errors
