"""What a device is built from: the folder of a model gives the device the identity of every other tier."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from tests.components import need
from tierwise.cli.device import device
from tierwise.core.errors import ModelError, ModelIntegrityError
from tierwise.device.bridge import BridgeSettings, DeviceBridge
from tierwise.device.emulator import Emulator
from tierwise.device.manifest import read_build
from tierwise.device.source import DeviceModel, find_device_model
from tierwise.messaging.settings import MqttConnectionSettings
from tierwise.models.card import load_card, save_card
from tierwise.models.samples import load_samples

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.live.broker import PrivateBroker

INT8 = "anomaly-detector-int8.tflite"


def test_a_folder_its_card_and_its_file_are_one_model(anomaly_detector: Path, tmp_path: Path) -> None:
    expected = DeviceModel(anomaly_detector / INT8, "anomaly-detector", "1.0.0", ("normal", "faulty"), 0.5)
    for given in (anomaly_detector, anomaly_detector / "model.yaml", anomaly_detector / INT8):
        assert find_device_model(given) == expected
    bare = shutil.copyfile(anomaly_detector / INT8, tmp_path / "mine.tflite")
    assert find_device_model(bare) == DeviceModel(bare)


def test_a_card_without_such_a_file_or_with_another_is_refused(anomaly_detector: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(anomaly_detector, tmp_path / "copy")
    (folder / INT8).write_bytes(b"another")
    with pytest.raises(ModelIntegrityError):
        find_device_model(folder)
    card = load_card(folder)
    floats = tuple(artifact for artifact in card.artifacts if artifact.dtype != "int8")
    save_card(msgspec.structs.replace(card, artifacts=floats), folder)
    with pytest.raises(ModelError, match="no int8"):
        find_device_model(folder)


async def test_answers_of_the_device_carry_the_cards_name_version_and_label(
    anomaly_detector: Path, broker: PrivateBroker, tmp_path: Path
) -> None:
    need(program="arm-none-eabi-gcc")
    need(program="qemu-system-arm")
    out = tmp_path / "out"
    arguments = ["build", str(anomaly_detector), "--out", str(out)]
    built = await asyncio.to_thread(CliRunner().invoke, device, arguments, catch_exceptions=False)
    assert built.output.startswith("anomaly-detector 1.0.0 (CRC32 ")
    report = read_build(out)
    assert (report.model, report.model_version, report.labels) == ("anomaly-detector", "1.0.0", ("normal", "faulty"))
    connection = MqttConnectionSettings(host=broker.host, port=broker.port)
    samples = load_samples(anomaly_detector / "samples.npz").array
    async with Emulator(out) as emulator, DeviceBridge(emulator, connection, BridgeSettings(device_id="d")) as bridge:
        answers = [await bridge.infer(samples[index]) for index in range(8)]
    assert {(answer.model, answer.model_version) for answer in answers} == {("anomaly-detector", "1.0.0")}
    values = [float(np.asarray(answer.prediction)) for answer in answers]
    assert [answer.label for answer in answers] == [("normal", "faulty")[value >= 0.5] for value in values]
    assert {answer.label for answer in answers} == {"normal", "faulty"}

    np.savez(tmp_path / "eight.npz", features=samples[:8])
    arguments = ["run", str(out), "--input", str(tmp_path / "eight.npz")]
    ran = await asyncio.to_thread(CliRunner().invoke, device, arguments, catch_exceptions=False)
    lines = [line for line in ran.stdout.splitlines() if line]
    assert [line.partition("\t")[2] for line in lines] == [answer.label for answer in answers]
    assert "µJ an inference (not measured)" in ran.stderr
    ran = await asyncio.to_thread(CliRunner().invoke, device, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(ran.stdout)["labels"] == [answer.label for answer in answers]
