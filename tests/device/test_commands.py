"""``tierwise device``: what people type, and what comes back."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

from tests.components import need
from tests.sensor_client import device_on
from tests.waiting import until
from tierwise.cli.device import device
from tierwise.device.boards import load_board
from tierwise.live.processes import child_process, free_port

need(package="ai_edge_litert")
need(package="tflite_micro")
need(program="arm-none-eabi-gcc")
need(program="qemu-system-arm")

from tests.device.laboratory import Oracle  # noqa: E402 - after the check that its packages are installed
from tests.device.reference_models import MODELS  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.live.broker import PrivateBroker

DEVICE = [sys.executable, "-m", "tierwise", "device"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "wake-word.tflite"
    path.write_bytes(MODELS["wake-word"]())
    return path


@pytest.fixture(scope="module")
def folder(model: Path) -> Path:
    made = CliRunner().invoke(device, ["build", str(model), "--out", str(model.parent / "out")], catch_exceptions=False)
    assert made.exit_code == 0
    assert "board nucleo-l4r5zi" in made.output
    return model.parent / "out"


def run(*arguments: object, text: str = "") -> str:
    result = CliRunner().invoke(device, [str(a) for a in arguments], input=text, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_run_gives_the_promised_json(model: Path, folder: Path, tmp_path: Path) -> None:
    samples = np.random.default_rng(3).integers(-128, 128, (3, 30, 1, 40)).astype(np.int8)
    np.save(tmp_path / "x.npy", samples)
    answer = json.loads(run("run", folder, "--input", tmp_path / "x.npy", "--json"))
    oracle = Oracle(model.read_bytes(), 1, 1)
    expected = [np.frombuffer(oracle.run(sample.tobytes()), np.int8).tolist() for sample in samples]
    assert answer["raw_outputs"] == expected
    assert answer["outputs"][0] == pytest.approx([(q - 9) * 0.1 for q in expected[0]], rel=1e-5)
    board = load_board("nucleo-l4r5zi")
    assert answer["modelled_board"] == board.name
    assert len(answer["instructions"]) == len(answer["latency_ms"]) == len(answer["energy_mj"]) == 3
    assert answer["latency_ms"][0] == pytest.approx(board.latency_ms(answer["instructions"][0]))
    assert answer["energy_mj"][0] == pytest.approx(answer["latency_ms"][0] * board.active_mw / 1e3)
    assert answer["flash_bytes"] > 40_000
    assert answer["ram_bytes"] > answer["stack_bytes"] > 100
    assert answer["model_crc32"] == json.loads((folder / "build.json").read_text())["model_crc32"]


def test_real_samples_from_any_form_give_the_same(folder: Path, tmp_path: Path) -> None:
    samples = np.round(np.random.default_rng(4).normal(size=(2, 1200)), 3)
    np.save(tmp_path / "x.npy", samples)
    (tmp_path / "x.json").write_text(json.dumps(samples.tolist()))
    np.savetxt(tmp_path / "x.csv", samples, delimiter=",", fmt="%.3f")
    answers = [
        json.loads(run("run", folder, "--input", tmp_path / name, "--json"))["raw_outputs"]
        for name in ("x.npy", "x.json", "x.csv")
    ]
    assert answers[0] == answers[1] == answers[2]
    one = json.loads(run("run", folder, "--input", "-", "--json", text=json.dumps(samples[0].tolist())))
    assert one["raw_outputs"] == answers[0][:1]


def test_people_are_told_what_is_measured_and_what_is_modelled(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 1200)))
    result = CliRunner().invoke(device, ["run", str(folder), "--input", str(tmp_path / "x.npy")])
    assert result.exit_code == 0
    assert "counted on the emulated netduinoplus2" in result.stderr
    assert "modelled for the board nucleo-l4r5zi" in result.stderr
    assert len(result.stdout.split()) == 3


def test_host_builds_do_not_measure(model: Path, tmp_path: Path) -> None:
    need(program="cc")
    run("build", model, "--out", tmp_path / "host", "--host")
    np.save(tmp_path / "x.npy", np.zeros((1, 1200)))
    result = CliRunner().invoke(device, ["run", str(tmp_path / "host"), "--input", str(tmp_path / "x.npy")])
    assert "not measured" in result.stderr
    answer = json.loads(run("run", tmp_path / "host", "--input", tmp_path / "x.npy", "--json"))
    assert answer["instructions"] == answer["latency_ms"] == answer["energy_mj"] == [None]
    assert answer["flash_bytes"] is None


def test_monitor_answers_line_by_line(folder: Path) -> None:
    text = ",".join(["0"] * 1200) + "\ninfo\n1,2\n\nnonsense\n" + json.dumps([0] * 1200) + "\n"
    result = CliRunner().invoke(device, ["monitor", str(folder)], input=text)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("READY wake-word on netduinoplus2")
    assert lines[1].endswith("instructions")
    assert json.loads(lines[2])["model"] == "wake-word"
    assert lines[3] == lines[1]
    assert result.stderr.count("error:") == 2


def test_bad_input_is_one_line_and_exit_code_2(folder: Path, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 7)))
    cases = [
        (["run", folder, "--input", tmp_path / "x.npy"], "expected 1200 values"),
        (["run", tmp_path, "--input", tmp_path / "x.npy"], "holds no device build"),
        (["run", folder, "--input", tmp_path / "x.npy", "--board", "abacus"], "unknown board"),
        (["build", tmp_path / "none.tflite", "--out", tmp_path / "o"], "cannot read the model"),
        (["build", model, "--out", tmp_path / "o", "--board", "abacus"], "unknown board"),
    ]
    for arguments, message in cases:
        command = [sys.executable, "-m", "tierwise", "device", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_bridge_publishes_for_a_file_of_samples(folder: Path, broker: PrivateBroker, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 1200)))
    address = f"{broker.host}:{broker.port}"
    text = run("bridge", folder, "--mqtt", address, "--device-id", "m1", "--input", tmp_path / "x.npy")
    assert len([json.loads(line) for line in text.splitlines()]) == 2


async def test_bridge_serves_until_it_is_told_to_stop(folder: Path, broker: PrivateBroker) -> None:
    status = "tierwise/m1/status"
    command = ["bridge", folder, "--device-id", "m1", "--serve", "asked"]
    where = {"MQTT_BROKER_HOST": broker.host, "MQTT_BROKER_PORT": str(broker.port)}
    async with (
        device_on(broker, "ml/inference/result/+", status) as client,
        child_process([*DEVICE, *map(str, command)], env=where) as child,
    ):
        await until(lambda: client.of_topic(status) == [b"online"], timeout_s=60)
        client.send({"device_id": "s1", "timestamp_us": 5, "features": [0.5] * 1200}, topic="asked")
        await until(lambda: bool(client.of_topic("ml/inference/result/s1")))
        child.terminate()
        assert await child.wait() == 0
        await until(lambda: client.of_topic(status) == [b"online", b"stopped"])


async def test_bridge_that_is_stopped_before_its_last_sample_says_so(
    folder: Path, broker: PrivateBroker, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2000, 1200)))
    command = ["bridge", folder, "--mqtt", f"{broker.host}:{broker.port}", "--device-id", "m1"]
    command += ["--input", tmp_path / "x.npy"]
    async with child_process([*DEVICE, *map(str, command)]) as child:
        await child.wait_line("[0.0", timeout_s=60)
        child.terminate()
        assert await child.wait() == 143


def strict_broker(folder: Path, port: int) -> Path:
    """Configuration of a broker on ``port`` that asks for the password of ann, over TLS with ``folder/ca.pem``."""
    need(program="mosquitto")
    need(program="mosquitto_passwd")
    need(program="openssl")
    key, certificate, passwords = (folder / name for name in ("key.pem", "ca.pem", "passwords"))
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*new, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "ann", "s3cret"], check=True, capture_output=True)
    settings = [f"listener {port} 127.0.0.1", "allow_anonymous false", f"password_file {passwords}",
                f"certfile {certificate}", f"keyfile {key}"]  # fmt: skip
    settings += ["user root"] if os.geteuid() == 0 else []  # another user could not read the test's folder
    (folder / "mosquitto.conf").write_text("\n".join(settings) + "\n")
    return folder / "mosquitto.conf"


async def test_bridge_reaches_a_broker_that_asks_for_password_and_tls(folder: Path, tmp_path: Path) -> None:
    port = free_port()
    configuration = strict_broker(tmp_path, port)
    (tmp_path / "secret").write_text("s3cret\n")
    np.save(tmp_path / "x.npy", np.zeros((2, 1200)))
    command = [*DEVICE, "bridge", str(folder), "--device-id", "m1", "--input", str(tmp_path / "x.npy")]
    command += ["--mqtt-ca-file", str(tmp_path / "ca.pem"), "--mqtt-username", "ann"]
    env = {"TIERWISE_MQTT": f"127.0.0.1:{port}", "TIERWISE_MQTT_PASSWORD_FILE": str(tmp_path / "secret")}
    async with child_process(["mosquitto", "-v", "-c", configuration]) as broker:
        await broker.wait_line("running", timeout_s=60)
        given = await asyncio.to_thread(ended, command, {**os.environ, **env})
        assert given.returncode == 0, given.stderr
        assert len([json.loads(line) for line in given.stdout.splitlines()]) == 2
        refused = await asyncio.to_thread(ended, [*command, "--mqtt-username", "bob"], {**os.environ, **env})
        assert refused.returncode != 0
        assert "refused" in refused.stderr.lower() or "not authorized" in refused.stderr.lower()


def ended(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A command that has ended."""
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)


def test_bridge_without_a_broker_or_work_is_refused(folder: Path, tmp_path: Path) -> None:
    command = [*DEVICE, "bridge", str(folder), "--device-id", "m1"]
    for more, message in (
        (["--mqtt", "off", "--serve", "a"], "a bridge needs a broker"),
        ([], "nothing to do"),
        (["--serve", "a", "--mqtt-password-file", str(tmp_path / "none")], "--mqtt-password-file"),
        (["--serve", "a", "--max-payload-bytes", "0"], "--max-payload-bytes"),
    ):
        done = ended([*command, *more], dict(os.environ))
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
