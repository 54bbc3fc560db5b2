"""A demo of somebody's own files: it runs where there is one, and says what would bring in the rest."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.components import need

from tierwise.core.errors import ConfigurationError, ModelError, ModelFileError
from tierwise.core.trace import read_trace_csv
from tierwise.live import demo
from tierwise.live.demo import DemoSettings, run_demo
from tierwise.live.models import find_model
from tierwise.models.samples import Samples

if TYPE_CHECKING:
    from pathlib import Path


def copied(model: Path, folder: Path, *suffixes: str) -> Path:
    """The files of a model without its card, under another name."""
    folder.mkdir(exist_ok=True)
    for suffix in suffixes:
        shutil.copyfile(model / f"{model.name}{suffix}", folder / f"pump{suffix}")
    return folder


async def test_a_bare_file_answers_random_samples_at_the_edge(anomaly_detector: Path, tmp_path: Path) -> None:
    need(program="mosquitto")
    file = copied(anomaly_detector, tmp_path / "mine", ".onnx") / "pump.onnx"
    result = await run_demo(DemoSettings(model=str(file), requests=20, out=tmp_path / "out"))

    assert result.problems == ()
    assert [(name, tier.answered) for name, tier in result.summary.tiers.items()] == [("edge", 20)]
    assert list(result.summary.left_out) == ["device", "cloud"]
    assert "--cloud-runtime onnx" in result.summary.left_out["cloud"]
    assert f"tierwise model card {tmp_path / 'mine'}" in result.summary.left_out["device"]
    assert "random numbers" in (result.summary.caveat or "")
    assert result.summary.tiers["edge"].accuracy is None
    page = result.files.report.read_text()
    assert "Left out: pump has no file for torch" in page
    assert "random numbers" in page


async def test_two_tiers_without_labels_are_compared_by_value(anomaly_detector: Path, tmp_path: Path) -> None:
    need(program="mosquitto")
    file = copied(anomaly_detector, tmp_path / "mine", ".onnx") / "pump.onnx"
    settings = DemoSettings(model=str(file), requests=20, latency_ms=1, cloud_runtime="onnx", out=tmp_path / "out")
    summary = (await run_demo(settings)).summary
    assert list(summary.tiers) == ["edge", "cloud"]
    assert summary.agreement is None
    assert summary.difference is not None
    assert summary.difference.mean == summary.difference.largest == 0, "one file on one runtime"
    assert summary.compared == 20
    assert settings.command().count("--cloud-runtime onnx") == 1


async def test_own_samples_with_labels_give_accuracy(anomaly_detector: Path, tmp_path: Path) -> None:
    need(program="mosquitto")
    with np.load(anomaly_detector / "samples.npz") as archive:
        given = Samples(archive["features"][:10], np.array(["normal", "faulty"])[archive["labels"][:10]])
    settings = DemoSettings(
        model=str(anomaly_detector), samples=("mine.csv", given), requests=10, device=False, latency_ms=1,
        out=tmp_path / "out",
    )  # fmt: skip
    result = await run_demo(settings)
    assert result.summary.tiers["edge"].accuracy is not None
    assert result.summary.left_out == {}
    truths = {row.request_id.rpartition("-")[2]: row.truth for row in read_trace_csv(result.files.trace)}
    assert given.labels is not None
    assert truths == {str(index): str(name) for index, name in enumerate(given.labels)}
    assert "--samples mine.csv" in settings.command()


async def test_an_int8_file_alone_runs_on_the_device_and_the_edge(anomaly_detector: Path, tmp_path: Path) -> None:
    need(program="mosquitto")
    need(program="arm-none-eabi-gcc")
    need(program="qemu-system-arm")
    file = copied(anomaly_detector, tmp_path / "mine", "-int8.tflite") / "pump-int8.tflite"
    summary = (await run_demo(DemoSettings(model=str(file), requests=10, out=tmp_path / "out"))).summary
    assert {name: tier.runtime for name, tier in summary.tiers.items()} == {"device": "firmware", "edge": "litert"}
    assert summary.difference is not None
    assert summary.difference.largest < 0.01, "the same integers, but for the last bit"


async def test_a_runtime_that_is_not_installed_leaves_its_tier_out(
    anomaly_detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(program="mosquitto")
    monkeypatch.setattr(demo, "missing_package", lambda name: "torch: pip install it" if name == "torch" else None)
    settings = DemoSettings(model=str(anomaly_detector), requests=5, device=False, out=tmp_path / "out")
    summary = (await run_demo(settings)).summary
    assert list(summary.tiers) == ["edge"]
    assert summary.left_out == {"cloud": "the torch runtime is not installed; it needs torch: pip install it"}


async def test_no_tier_at_all_is_an_error(anomaly_detector: Path, tmp_path: Path) -> None:
    file = copied(anomaly_detector, tmp_path / "mine", ".pt2") / "pump.pt2"
    with pytest.raises(ModelError, match=r"no artifact for litert"):
        await run_demo(DemoSettings(model=str(file), edge_runtime="litert", out=tmp_path / "out"))
    file = copied(anomaly_detector, tmp_path / "bare", ".pt2") / "pump.pt2"
    settings = DemoSettings(model=str(file), cloud_runtime="onnx", device=False, out=tmp_path / "out")
    with pytest.raises(ModelError, match="no artifact for onnx"):
        await run_demo(settings)


async def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    async def refused(given: str) -> str:
        with pytest.raises((ConfigurationError, ModelFileError)) as caught:
            await find_model(given, tmp_path, on_step=lambda _: None)
        return str(caught.value)

    assert "(did you mean `digits`?)" in await refused("digit")
    (tmp_path / "notes.txt").write_text("no model")
    assert "not a model file" in await refused(str(tmp_path / "notes.txt"))
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    assert "broken.onnx" in await refused(str(tmp_path / "broken.onnx"))
    assert f"`tierwise model card {tmp_path}` writes it" in await refused(str(tmp_path))
