"""One model, every runtime: the same numbers, within what the model card documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.runtimes.conftest import SUFFIXES

from tierwise.models.card import load_card
from tierwise.runtimes import load_runtime

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

FLOAT_BOUND = 1e-5


def outputs(path: Path, samples: NDArray[np.float32], runtime: str | None = None) -> NDArray[np.float32]:
    """What the model says for a batch of samples."""
    loaded = load_runtime(path, runtime=runtime)
    (answer,) = loaded.run({loaded.signature.inputs[0].name: samples})
    loaded.close()
    result: NDArray[np.float32] = answer
    return result


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("batch", [1, 3, 32])
def test_float_runtimes_agree_at_every_batch_size(
    artifacts: Mapping[str, Path], samples: NDArray[np.float32], suffix: str, batch: int
) -> None:
    reference = outputs(artifacts[".onnx"], samples[:batch])
    answer = outputs(artifacts[suffix], samples[:batch])
    assert answer.shape == (batch, 1)
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, reference, rtol=0, atol=FLOAT_BOUND)


@pytest.mark.parametrize("suffix", [".tflite", ".pt", ".pt2", ".safetensors"])
def test_float_runtimes_agree_on_images(digits: Path, suffix: str) -> None:
    with np.load(digits / "samples.npz") as archive:
        images = archive["features"][:50]
    reference = outputs(digits / "digits.onnx", images)
    assert reference.shape == (50, 10)
    np.testing.assert_allclose(outputs(digits / f"digits{suffix}", images), reference, rtol=0, atol=FLOAT_BOUND)


@pytest.mark.parametrize("suffix", [*SUFFIXES, "int8", "tflm"])
def test_a_batch_says_what_its_samples_say_one_by_one(
    artifacts: Mapping[str, Path], samples: NDArray[np.float32], suffix: str
) -> None:
    loaded = load_runtime(
        artifacts["int8" if suffix == "tflm" else suffix], runtime="tflm" if suffix == "tflm" else None
    )
    # Sizes change back and forth: a runtime that resizes must come back as well.
    for batch in (1, 3, 1, 32, 32, 2):
        (together,) = loaded.run({"features": samples[:batch]})
        one_by_one = [loaded.run({"features": samples[at : at + 1]})[0] for at in range(batch)]
        np.testing.assert_allclose(together, np.concatenate(one_by_one), rtol=0, atol=1e-6)
    loaded.close()


@pytest.mark.parametrize("name", ["anomaly-detector", "digits"])
@pytest.mark.parametrize("runtime", ["litert", "tflm"])
def test_int8_stays_within_the_cards_bound(request: pytest.FixtureRequest, name: str, runtime: str) -> None:
    folder: Path = request.getfixturevalue(name.replace("-", "_"))
    (artifact,) = [entry for entry in load_card(folder).artifacts if entry.dtype == "int8"]
    with np.load(folder / "samples.npz") as archive:
        features = archive["features"][:200]
    error = np.abs(
        outputs(folder / artifact.file, features, runtime) - outputs(folder / f"{name}.onnx", features)
    ).max()
    assert artifact.error_bound is not None
    assert 0 < error <= artifact.error_bound


@pytest.mark.parametrize("name", ["anomaly-detector", "digits"])
def test_the_micro_runtime_and_litert_are_a_few_steps_apart_at_most(request: pytest.FixtureRequest, name: str) -> None:
    folder: Path = request.getfixturevalue(name.replace("-", "_"))
    path = folder / f"{name}-int8.tflite"
    with np.load(folder / "samples.npz") as archive:
        features = archive["features"][:200]
    step = load_runtime(path).signature.outputs[0].scale
    assert step is not None
    difference = np.abs(outputs(path, features, "litert") - outputs(path, features, "tflm"))
    # Their kernels round intermediate results differently; a softmax or sigmoid can widen one step to a few.
    assert difference.max() <= 4 * step + 1e-6
    assert np.median(difference) <= step
