"""``tierwise profile``: real runtimes and the emulator are measured; scenarios read what it writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.components import need
from tests.runtimes.tiny import onnx_sum
from tests.scenario.examples import scenario
from tierwise.cli import tierwise
from tierwise.cli.profile import profile
from tierwise.core.errors import ConfigurationError
from tierwise.models.card import load_card
from tierwise.scenario.profile import load_profile

if TYPE_CHECKING:
    from pathlib import Path

QUICK = ("--seconds", "0.1")


def run(model: Path, out: Path, *options: str) -> dict[str, Any]:
    """What the command prints as JSON."""
    arguments = [str(model), "--out", str(out), "--json", *options]
    result = CliRunner().invoke(profile, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    printed: dict[str, Any] = json.loads(result.stdout)
    return printed


@pytest.mark.parametrize("runtime", ["onnx", "litert", "torch", "tflm"])
def test_each_runtime_is_measured(anomaly_detector: Path, tmp_path: Path, runtime: str) -> None:
    if runtime == "tflm":
        need(package="tflite_micro")
    printed = run(anomaly_detector, tmp_path / "p.yaml", "--runtime", runtime, "--batch", "4,2", *QUICK)
    made = load_profile(tmp_path / "p.yaml")
    assert printed == made.model_dump(exclude_none=True)
    card = load_card(anomaly_detector)
    artifact = card.artifact_for(runtime)
    assert (made.model, made.version, made.runtime) == (card.name, card.version, runtime)
    assert (made.artifact.sha256, made.artifact.size_bytes) == (artifact.sha256, artifact.size_bytes)
    assert made.accuracy == pytest.approx(artifact.metrics["accuracy"], abs=1e-3)
    assert made.samples == 2000
    assert [one.batch for one in made.service] == [1, 2, 4]
    for one in made.service:
        assert 0 < one.times_us[0] <= one.p50_us <= one.p95_us <= one.p99_us
        assert np.mean(one.times_us) == pytest.approx(one.mean_us, rel=0.01)
        assert one.count >= 20
    assert made.peak_memory_bytes is not None
    assert made.peak_memory_bytes > 10_000_000
    assert scenario(tmp_path, models__anomaly__edge="{profile: p.yaml}").models["anomaly"].edge is not None


def test_a_bare_file_is_measured_on_random_samples(tmp_path: Path) -> None:
    need(package="onnx")
    need(package="onnxruntime")
    printed = run(onnx_sum(tmp_path / "sum.onnx"), tmp_path / "new" / "p.yaml", "--batch", "8", "--rate", "400", *QUICK)
    assert (printed["model"], printed["version"], printed["rate_hz"]) == ("sum", "1", 400)
    assert [one["batch"] for one in printed["service"]] == [1, 8]
    assert all(20 <= one["count"] <= 60 for one in printed["service"])  # 40, and a slice has one at least
    assert "accuracy" not in printed


def test_labelled_samples_give_the_accuracy(anomaly_detector: Path, tmp_path: Path) -> None:
    with np.load(anomaly_detector / "samples.npz") as archive:
        features, labels = archive["features"][:50], archive["labels"][:50]
    np.savez(tmp_path / "right.npz", features=features, labels=labels)
    np.savez(tmp_path / "wrong.npz", features=features, labels=1 - labels)
    right, wrong = (
        run(anomaly_detector, tmp_path / "p.yaml", "--batch", "1", "--samples", str(tmp_path / f"{name}.npz"), *QUICK)
        for name in ("right", "wrong")
    )
    assert right["samples"] == wrong["samples"] == 50
    assert right["accuracy"] > 0.9
    assert right["accuracy"] + wrong["accuracy"] == pytest.approx(1)


def test_a_board_is_modelled_from_counted_instructions(anomaly_detector: Path, tmp_path: Path) -> None:
    for program in ("arm-none-eabi-gcc", "qemu-system-arm"):
        need(program=program)
    with np.load(anomaly_detector / "samples.npz") as archive:
        np.savez(tmp_path / "few.npz", features=archive["features"][:40], labels=archive["labels"][:40])
    made = run(
        anomaly_detector, tmp_path / "p.yaml", "--board", "nucleo-l4r5zi", "--samples", str(tmp_path / "few.npz")
    )
    instructions = made["board"]["instructions"]
    assert 500 < instructions < 50_000
    milliseconds = instructions * 1.164 / 120e6 * 1e3  # the board profile's cycles an instruction and clock
    assert made["service"][0]["mean_us"] == pytest.approx(milliseconds * 1e3, rel=1e-3)
    assert made["energy_uj"] == pytest.approx(41.6 * milliseconds, rel=1e-3)
    assert made["accuracy"] > 0.8
    assert made["artifact"]["dtype"] == "int8"
    device = scenario(tmp_path, models__anomaly__device="{profile: p.yaml}").models["anomaly"].device
    assert device is not None
    assert device.energy == pytest.approx(made["energy_uj"] * 1e-6)


def test_the_table_and_the_file_are_told(
    anomaly_detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(profile, [str(anomaly_detector), "--batch", "2", *QUICK], catch_exceptions=False)
    assert result.exit_code == 0
    for word in ("mean, µs", "samples a second", "accuracy", "peak memory", "measured by tierwise profile on "):
        assert word in result.output
    assert "written to anomaly-detector.onnx.profile.yaml" in result.output
    assert load_profile(tmp_path / "anomaly-detector.onnx.profile.yaml").service[1].batch == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "x"], "expected sizes from 1 to 1024 with commas between"),
        (["--batch", "2000"], "expected sizes from 1 to 1024 with commas between"),
        (["--out", "p.yaml/p.yaml"], "cannot write results to p.yaml (--out): "),
        (["--seconds", "0"], "0.0 is not in the range x>0"),
        (["--board", "nucleo-l4r5zi", "--rate", "1"], "--rate has no effect with --board"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").touch()
    result = CliRunner().invoke(tierwise, ["profile", str(tmp_path), *options])
    assert message in result.output + str(result.exception)
    assert result.exit_code == 2 or isinstance(result.exception, ConfigurationError)
