"""``tests/test-inference.sh`` against a plain service, a container, and what is wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.components import need
from tests.runtimes.tiny import node, onnx_model, tensor
from tests.services import service

from tierwise.live.processes import free_port

if TYPE_CHECKING:
    from tests.integration.engine import Engine

SCRIPT = Path(__file__).parents[1] / "test-inference.sh"
CHECKS = 10


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    need(program="curl")
    command = ["sh", str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


async def test_passes_against_a_plain_service(anomaly_detector: Path) -> None:
    port = free_port()
    async with service("serve", anomaly_detector, None, "--http", f"127.0.0.1:{port}"):
        done = run(f"http://127.0.0.1:{port}/")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok  ") == CHECKS
    assert done.stdout.endswith("All checks passed.\n")


async def test_takes_samples_of_another_length(digits: Path) -> None:
    port = free_port()
    async with service("serve", digits, None, "--http", f"127.0.0.1:{port}"):
        learned = run(f"http://127.0.0.1:{port}")
        told = run("--features", "64", f"http://127.0.0.1:{port}")
        wrong = run("--features", "63", f"http://127.0.0.1:{port}")
    assert learned.returncode == 0, learned.stdout
    assert learned.stdout == told.stdout
    assert wrong.returncode == 1
    assert "FAILED  POST /predict answers one sample: status 400, expected 200" in wrong.stdout
    assert "FAILED  the same sample gets the same prediction: there is none to compare" in wrong.stdout


@pytest.mark.parametrize("dtype", ["FLOAT", "INT64"])
async def test_takes_one_value_and_whole_numbers(tmp_path: Path, dtype: str) -> None:
    need(package="onnx")
    same = node("Identity", ["values"], ["same"])
    values, out = tensor("values", dtype, ["n", 1]), tensor("same", dtype, ["n", 1])
    model = onnx_model(tmp_path / "same.onnx", [same], [values], [out])
    port = free_port()
    async with service("serve", model, None, "--http", f"127.0.0.1:{port}"):
        done = run(f"http://127.0.0.1:{port}")
    assert done.returncode == 0, done.stdout


async def test_a_length_that_cannot_be_learned_is_asked_for(tmp_path: Path) -> None:
    need(package="onnx")
    free = onnx_model(
        tmp_path / "free.onnx",
        [node("ReduceSum", ["values", "axes"], ["sum"], keepdims=1)],
        [tensor("values", "FLOAT", ["n", "length"])],
        [tensor("sum", "FLOAT", ["n", 1])],
        axes=[1],
    )
    port = free_port()
    async with service("serve", free, None, "--http", f"127.0.0.1:{port}"):
        asked = run(f"http://127.0.0.1:{port}")
    assert asked.returncode == 1
    assert "FAILED  the service does not tell how long a sample is; give --features N" in asked.stdout


def test_passes_against_the_running_container(engine: Engine, edge_image: str, readable_model: Path) -> None:
    port = free_port()
    env = {"MODEL_PATH": "/app/models", "TIERWISE_HTTP": f"127.0.0.1:{port}", "TIERWISE_MQTT": "off"}
    settings = [part for name, value in env.items() for part in ("--env", f"{name}={value}")]
    with engine.container(edge_image, "--read-only", "--volume", f"{readable_model}:/app/models:ro", *settings):
        done = run(f"http://127.0.0.1:{port}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_nobody_there_is_told() -> None:
    done = run("--wait", "0", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "Nobody answers at" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "URL is needed"),
        (["localhost:8080"], "URL is needed"),
        (["http://"], "URL is needed"),
        (["--wait", "soon", "http://localhost"], "--wait needs a number"),
        (["--features"], "--features needs a number"),
        (["http://localhost", "http://localhost"], "one argument too many"),
        (["--fast", "http://localhost"], "unknown option"),
    ],
)
def test_wrong_arguments_end_with_2_and_the_usage(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "test-inference.sh [" in done.stderr
