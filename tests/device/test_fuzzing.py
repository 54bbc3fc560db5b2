"""Hostile input: damaged .tflite files end in typed errors, damaged frames in silence or an ERROR, never in a crash."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.components import need
from tierwise.core.errors import ModelError
from tierwise.device.build import Options, build, prepare, write_sources
from tierwise.device.frames import Decoder, Frame, FrameType, encode
from tierwise.device.tflite import parse_graph

need(package="ai_edge_litert")
need(package="tflite_micro")
need(program="cc")

from tests.device.laboratory import Laboratory  # noqa: E402 - after the check that its packages are installed
from tests.device.reference_models import MODELS  # noqa: E402
from tests.device.tflite_writer import ModelBuilder  # noqa: E402

PATIENT = settings(deadline=None, suppress_health_check=list(HealthCheck))


def small_model() -> bytes:
    """Every kind of field in few bytes: convolution, pooling, concatenation, mean, softmax, dense."""
    b = ModelBuilder()
    x = b.tensor([1, 6, 6, 2], scale=0.1, zero_point=3)
    weights = b.tensor([4, 3, 3, 2], scale=[0.01, 0.02, 0.01, 0.02], data=np.arange(72).reshape(4, 3, 3, 2) - 36)
    bias = b.tensor([4], "int32", scale=[0.001, 0.002, 0.001, 0.002], data=np.arange(4))
    y = b.tensor([1, 6, 6, 4], scale=0.2)
    b.operator("CONV_2D", [x, weights, bias], [y], "Conv2D", padding=0, strideH=1, strideW=1)
    p = b.tensor([1, 3, 3, 4], scale=0.2)
    b.operator("MAX_POOL_2D", [y], [p], "Pool2D", padding=1, strideH=2, strideW=2, filterHeight=2, filterWidth=2)
    c = b.tensor([1, 3, 3, 8], scale=0.2)
    b.operator("CONCATENATION", [p, p], [c], "Concatenation", axis=3)
    axes = b.tensor([2], "int32", scale=None, data=np.array([1, 2]))
    m = b.tensor([1, 8], scale=0.2)
    b.operator("MEAN", [c, axes], [m], "Reducer", keepDims=False)
    s = b.tensor([1, 8], scale=1 / 256, zero_point=-128)
    b.operator("SOFTMAX", [m], [s], "Softmax", beta=1.0)
    return b.finish([x], [s])


SMALL = small_model()
BYTES = st.integers(0, 255)


@st.composite
def damaged_models(draw: st.DrawFn) -> bytes:
    data = bytearray(SMALL)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data) - 1))
        if draw(st.booleans()):
            data[at] = draw(BYTES)
        else:  # whole numbers: offsets, sizes, indices
            data[at : at + 4] = draw(st.sampled_from([0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])).to_bytes(
                4, "little"
            )
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 4)) == 0 else data)


def compiled(data: bytes) -> str | list[str]:
    """The names of the C files, or why the model was refused. Anything but a ``ModelError`` fails the test."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(data)
        try:
            compilation = prepare(path, Options(host=True, fast=True))
        except ModelError as error:
            return str(error)
        return write_sources(Path(folder) / "src", compilation)


def accepted(data: bytes) -> bool:
    return isinstance(compiled(data), list)


def is_refused_by_the_parser(data: bytes) -> bool:
    """Anything but a ``ModelError`` fails the test."""
    try:
        parse_graph(data, "truncated")
    except ModelError:
        return True
    return False


@settings(PATIENT, max_examples=600)
@given(damaged_models())
def test_damaged_models_end_in_typed_errors(data: bytes) -> None:
    outcome = compiled(data)
    assert outcome, "a reason or C, never neither"
    assert isinstance(outcome, str) or "model.c" in outcome


def test_every_truncation_ends_in_a_typed_error() -> None:
    taken = [size for size in range(len(SMALL)) if not is_refused_by_the_parser(SMALL[:size])]
    assert taken == []
    assert accepted(SMALL)


def test_truncations_of_a_large_model_end_in_typed_errors() -> None:
    model = MODELS["keyword"]()
    taken = [size for size in range(0, len(model), 997) if not is_refused_by_the_parser(model[:size])]
    assert taken == []
    assert not is_refused_by_the_parser(model)


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    return Laboratory(tmp_path_factory.mktemp("laboratory"))


@settings(PATIENT, max_examples=12, derandomize=True)
@given(st.data())
def test_damaged_models_that_are_accepted_give_sound_c(laboratory: Laboratory, data: st.DataObject) -> None:
    model = data.draw(damaged_models().filter(accepted))
    try:
        size = sum(tensor.bytes for tensor in parse_graph(model, "damaged").inputs)
    except ModelError:
        pytest.fail("accepted once and refused now")
    # Runs under AddressSanitizer and UndefinedBehaviorSanitizer.
    assert laboratory.run(model, [bytes(size), bytes(range(256)) * (size // 256 + 1)][:1], fast=True)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The firmware's own frame handling, as a program of this machine with sanitizers."""
    folder = tmp_path_factory.mktemp("frames")
    model = folder / "model.tflite"
    model.write_bytes(SMALL)
    flags = ("-g", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    build(model, folder / "build", Options(host=True, flags=flags))
    return folder / "build" / "firmware-host"


INPUT_BYTES = 72
GOOD = encode(Frame(FrameType.INFER, 77, bytes(INPUT_BYTES)))
FLUSH = bytes(200)
"""Longer than any frame that the device waits for, and no start of one."""
pieces = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda n: b"\x7e" * n, st.integers(1, 100)),
    st.builds(lambda kind, payload: encode(Frame(kind, 1, payload)), BYTES, st.binary(max_size=100)),
    st.builds(lambda at, bit: _flip(GOOD, at, bit), st.integers(0, len(GOOD) - 1), st.integers(0, 7)),
    st.builds(lambda n: GOOD[:n], st.integers(0, len(GOOD))),
)


def _flip(frame: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(frame)
    changed[at] ^= 1 << bit
    return bytes(changed)


@settings(PATIENT, max_examples=150)
@given(st.lists(pieces, max_size=12))
def test_frame_handling_survives_anything_and_recovers(program: Path, stream: list[bytes]) -> None:
    sent = b"".join(stream) + FLUSH + GOOD
    done = subprocess.run([program], input=sent, capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    frames = Decoder().feed(done.stdout)
    assert frames[0].type == FrameType.READY
    answers = [frame for frame in frames if frame.type == FrameType.INFER and frame.sequence == 77]
    assert answers
    assert len(answers[-1].payload) == 8 + 8


def test_a_truncated_frame_is_given_up_after_a_while(program: Path) -> None:
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # A whole frame hides behind the start of a longer one: it is found when the line falls silent.
        process.stdin.write(GOOD[:20] + encode(Frame(FrameType.INFO, 5, b"")))
        process.stdin.flush()
        decoder = Decoder()
        frames: list[Frame] = []
        while not any(frame.type == FrameType.INFO for frame in frames):
            data = os.read(process.stdout.fileno(), 4096)
            assert data
            frames += decoder.feed(data)
        process.stdin.close()
        assert process.wait(timeout=10) == 0
    assert [frame.type for frame in frames] == [FrameType.READY, FrameType.ERROR, FrameType.INFO]
    assert frames[1].payload[0] == 3
