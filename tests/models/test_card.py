"""Model cards: reading, writing, errors by line, integrity, labels."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.core.errors import InferenceError, ModelError, ModelFileError, ModelIntegrityError
from tierwise.core.tensors import Signature, TensorSpec
from tierwise.models.card import (
    Artifact,
    DataSource,
    ModelCard,
    find_card,
    load_card,
    save_card,
    sha256_of,
    verify,
)

if TYPE_CHECKING:
    from pathlib import Path

ONE = Signature((TensorSpec("features", (None, 32), "float32"),), (TensorSpec("probability", (None, 1), "float32"),))
THREE = Signature((TensorSpec("image", (None, 8, 8), "float32"),), (TensorSpec("scores", (None, 3), "float32"),))

TEXT = """\
# YAML 1.2
name: pump
version: 1.2.0
task: binary-classification
signature:
  inputs:
    - name: features
      shape: [null, 32]
      dtype: float32
  outputs:
    - name: probability
      shape: [null, 1]
      dtype: float32
labels: [no, yes]
threshold: 0.5
artifacts:
  - file: pump.onnx
    format: onnx
    runtimes: [onnx]
    dtype: float32
    size_bytes: 3
    sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
"""
"""The hash is SHA-256 of ``abc`` (FIPS 180-2, appendix B.1)."""


def artifact(file: str = "pump.onnx", **changes: Any) -> Artifact:
    values: dict[str, Any] = {
        "file": file,
        "format": "onnx",
        "runtimes": ("onnx",),
        "dtype": "float32",
        "size_bytes": 3,
        "sha256": "a" * 64,
    }
    return Artifact(**values | changes)


def binary(**changes: Any) -> ModelCard:
    values: dict[str, Any] = {
        "name": "pump",
        "version": "1",
        "task": "binary-classification",
        "signature": ONE,
        "labels": ("normal", "faulty"),
        "threshold": 0.5,
        "artifacts": (artifact(),),
    }
    return ModelCard(**values | changes)


def several(**changes: Any) -> ModelCard:
    return binary(**{"signature": THREE, "labels": ("a", "b", "c"), "threshold": None} | changes)


def write(folder: Path, text: str = TEXT) -> Path:
    path = folder / "model.yaml"
    path.write_text(text)
    return path


class TestRoundTrip:
    def test_every_field_survives(self, tmp_path: Path) -> None:
        card = binary(
            description="A pump: with colon, # hash and 'quotes'\nand a second line.",
            architecture="anomaly-detector",
            metrics={"accuracy": 0.97},
            data=DataSource(name="pumps", source="doi:10/x", license="CC BY 4.0", seed=3, training_samples=10),
            samples="samples.npz",
            artifacts=(
                artifact(metrics={"accuracy": 0.97, "max_abs_error": 1.2e-7}, error_bound=1e-5),
                artifact("pump-int8.tflite", format="tflite", runtimes=("tflm", "litert"), dtype="int8"),
            ),
        )
        assert save_card(card, tmp_path) == tmp_path / "model.yaml"
        assert load_card(tmp_path) == card
        assert load_card(tmp_path / "model.yaml") == card
        assert [path.name for path in tmp_path.iterdir()] == ["model.yaml"], "no temporary file is left"

    @given(
        version=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,20}\Z"),
        labels=st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"])), min_size=2, max_size=2),
        digest=st.from_regex(r"\A[0-9a-f]{64}\Z"),
        threshold=st.floats(allow_nan=False, allow_infinity=False),
    )
    def test_scalars_keep_their_type(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        version: str,
        labels: list[str],
        digest: str,
        threshold: float,
    ) -> None:
        """``1.10``, ``no``, ``12e4`` and ``0x1f`` are strings where the card says so."""
        folder = tmp_path_factory.mktemp("card")
        card = binary(version=version, labels=tuple(labels), threshold=threshold, artifacts=(artifact(sha256=digest),))
        save_card(card, folder)
        assert load_card(folder) == card

    @pytest.mark.parametrize(
        "label", ["?0", "? 0", "-", "- a", ":", "a: b", "#", "no", "1e3", "~", "{", "a,b", "'", " "]
    )
    def test_labels_that_yaml_takes_for_something_else(self, tmp_path: Path, label: str) -> None:
        card = binary(labels=("plain", label))
        save_card(card, tmp_path)
        assert load_card(tmp_path) == card

    def test_yaml_1_2_words(self, tmp_path: Path) -> None:
        """``no`` and ``yes`` are words, not booleans."""
        assert load_card(write(tmp_path)).labels == ("no", "yes")

    def test_importing_it_is_light(self) -> None:
        heavy = {"torch", "onnx", "onnxruntime", "sklearn", "flatbuffers", "ai_edge_litert", "safetensors", "numpy"}
        code = f"import sys, tierwise.models.card; print(sorted({heavy!r} & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


class TestErrors:
    @pytest.mark.parametrize(
        ("before", "after", "line", "message"),
        [
            ("name: pump", "# name: pump", 3, "name: is missing"),
            (
                "threshold: 0.5",
                "threshold: 0.5\ntreshold: 0.4",
                16,
                "treshold: unknown key (did you mean `threshold`?)",
            ),
            ("threshold: 0.5", "threshold: half", 15, "threshold: expected `float | null`, got `str`"),
            ("shape: [null, 32]", "shape: [null, many]", 8, "signature.inputs[0].shape[1]: expected `int | null`"),
            ("size_bytes: 3", "size_bytes: -3", 21, "artifacts[0].size_bytes: expected `int` >= 0"),
            ("sha256: ba", "sha256: xx", 22, "artifacts[0].sha256"),
            ("format: onnx", "format: gguf", 18, "artifacts[0].format: expected one of onnx, tflite, pt,"),
            ("format: onnx", "format: onxx", 18, "safetensors, got 'onxx' (did you mean `onnx`?)"),
            ("runtimes: [onnx]", "runtimes: [tflm, onx]", 19, "artifacts[0].runtimes[1]: expected one of onnx, litert"),
            ("    dtype: float32\n    size", "    dtype: flaot32\n    size", 20, "(did you mean `float32`?)"),
            (
                "      dtype: float32\n  outputs",
                "      dtype: flt\n  outputs",
                9,
                "signature.inputs[0].dtype: expected one",
            ),
            ("runtimes: [onnx]", "runtimes: []", 19, "artifacts[0].runtimes"),
            ("version: 1.2.0", "version: 1.2", 3, "version: expected `str`, got `float`; put it in quotes"),
            ("labels: [no, yes]", "labels: [no, 1]", 14, "labels[1]: expected `str`, got `int`; put it in quotes"),
            ("version: 1.2.0", "version: ../1", 3, "version"),
            ("labels: [no, yes]", "labels: [no]", 2, "two labels"),
            ("threshold: 0.5\n", "", 2, "need a threshold"),
            ("labels: [no, yes]", "samples: pump.onnx", 2, "listed twice"),
            ("task: binary-classification", "task: [a\nb: c", 5, "not YAML"),
            ("task: binary-classification", "name: twice", 4, "not YAML: found duplicate key"),
            ("task: binary-classification", "task: !!python/object:os.system x", 4, "not YAML"),
        ],
    )
    def test_are_told_by_file_and_line(self, tmp_path: Path, before: str, after: str, line: int, message: str) -> None:
        assert before in TEXT
        path = write(tmp_path, TEXT.replace(before, after))
        with pytest.raises(ModelFileError) as caught:
            load_card(path)
        text = str(caught.value)
        assert text.startswith(f"{path}:{line}: "), text
        assert message in text
        assert "\n" not in text

    def test_all_at_once(self, tmp_path: Path) -> None:
        text = TEXT.replace("threshold:", "treshold:").replace("    dtype: float32\n    size", "    size")
        path = write(tmp_path, text.replace("name: pump", "name: a pump"))
        with pytest.raises(ModelFileError) as caught:
            load_card(path)
        assert str(caught.value).splitlines() == [
            f"{path}:15: treshold: unknown key (did you mean `threshold`?)",
            f"{path}:2: name: expected `str` matching regex '^[A-Za-z0-9][A-Za-z0-9._-]{{0,127}}\\\\Z'",
            f"{path}:17: artifacts[0].dtype: is missing",
        ]

    @pytest.mark.parametrize("text", ["", "just words", "- a\n- b", "[" * 1100, "a: &x [*x]", "\x00"])
    def test_what_is_no_card_is_refused(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(ModelFileError, match=r"model\.yaml"):
            load_card(write(tmp_path, text))

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ModelFileError, match=r"there is no model\.yaml; `tierwise model card .*` writes it"):
            load_card(tmp_path)
        with pytest.raises(ModelFileError, match=r"cannot read .*model.yaml: No such file"):
            load_card(tmp_path / "model.yaml")

    def test_not_text(self, tmp_path: Path) -> None:
        (tmp_path / "model.yaml").write_bytes(b"name: \xff\xfe")
        with pytest.raises(ModelFileError, match="not UTF-8 at byte 6"):
            load_card(tmp_path)

    def test_too_large(self, tmp_path: Path) -> None:
        write(tmp_path, "# " + "x" * (1 << 20))
        with pytest.raises(ModelFileError, match="larger than 1048576 bytes"):
            load_card(tmp_path)

    def test_unwritable(self, tmp_path: Path) -> None:
        with pytest.raises(ModelFileError, match="cannot write"):
            save_card(binary(), tmp_path / "missing" / "model.yaml")

    @pytest.mark.parametrize(
        "file",
        ["../pump.onnx", "/etc/passwd", "a/b.onnx", "..", ".", ".hidden", "", "a\\b", "a\nb", "a\0b", "pump.onnx\n"],
    )
    @pytest.mark.parametrize("field", ["file", "samples"])
    def test_a_file_outside_the_folder_is_refused(self, tmp_path: Path, file: str, field: str) -> None:
        content = msgspec.to_builtins(binary())
        if field == "file":
            content["artifacts"][0]["file"] = file
        else:
            content["samples"] = file
        write(tmp_path, msgspec.json.encode(content).decode())  # JSON is YAML
        with pytest.raises(ModelFileError, match=field):
            load_card(tmp_path)


class TestIntegrity:
    def test_the_named_file_passes(self, tmp_path: Path) -> None:
        card = load_card(write(tmp_path))
        (tmp_path / "pump.onnx").write_bytes(b"abc")
        assert verify(card, tmp_path / "pump.onnx") is card.artifacts[0]

    def test_another_file_of_that_name_does_not(self, tmp_path: Path) -> None:
        card = load_card(write(tmp_path))
        (tmp_path / "pump.onnx").write_bytes(b"abd")
        with pytest.raises(ModelIntegrityError, match=r"SHA-256 a52d159f262b…, expected ba7816bf8f01…"):
            verify(card, tmp_path / "pump.onnx")

    def test_an_unlisted_file_does_not(self, tmp_path: Path) -> None:
        card = load_card(write(tmp_path))
        (tmp_path / "other.onnx").write_bytes(b"abc")
        with pytest.raises(ModelIntegrityError, match="lists no such file"):
            verify(card, tmp_path / "other.onnx")

    def test_a_missing_file_does_not(self, tmp_path: Path) -> None:
        with pytest.raises(ModelFileError, match=r"cannot read .*pump.onnx"):
            verify(load_card(write(tmp_path)), tmp_path / "pump.onnx")

    def test_the_hash_is_the_standard_one(self, tmp_path: Path) -> None:
        (tmp_path / "abc").write_bytes(b"abc")
        assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


class TestFinding:
    def test_the_card_beside_a_listed_artifact(self, tmp_path: Path) -> None:
        card = load_card(write(tmp_path))
        assert find_card(tmp_path / "pump.onnx") == card

    def test_none_for_an_unlisted_file(self, tmp_path: Path) -> None:
        write(tmp_path)
        assert find_card(tmp_path / "other.onnx") is None

    def test_none_without_a_card(self, tmp_path: Path) -> None:
        assert find_card(tmp_path / "pump.onnx") is None

    def test_a_broken_card_is_not_overlooked(self, tmp_path: Path) -> None:
        write(tmp_path, "name: [")
        with pytest.raises(ModelFileError):
            find_card(tmp_path / "pump.onnx")

    def test_an_artifact_by_runtime_in_order_of_preference(self) -> None:
        first = artifact("a.tflite", format="tflite", runtimes=("litert",))
        second = artifact("b.tflite", format="tflite", runtimes=("tflm", "litert"), dtype="int8")
        card = binary(artifacts=(first, second))
        assert card.artifact_for("litert") is first
        assert card.artifact_for("tflm") is second
        assert card.artifact_for("litert", dtype="int8") is second

    def test_no_artifact_for_a_runtime(self) -> None:
        with pytest.raises(ModelError, match=r"pump 1 has no artifact for torch; it has pump.onnx \(onnx, float32\)"):
            binary().artifact_for("torch")


class TestLabels:
    @pytest.mark.parametrize(
        ("prediction", "label"),
        [
            (0.49, "normal"),
            (0.5, "faulty"),
            (1, "faulty"),
            ([0.1, 0.9], ["normal", "faulty"]),
            ([0.9], ["faulty"]),
            ([[0.1], [0.9]], ["normal", "faulty"]),
            ([], []),
            (np.float32(0.7), "faulty"),
            (np.array([[0.1], [0.7]], np.float32), ["normal", "faulty"]),
        ],
    )
    def test_of_one_value(self, prediction: Any, label: str | list[str]) -> None:
        assert binary().label_of(prediction) == label

    @pytest.mark.parametrize(
        ("prediction", "label"),
        [
            ([0.1, 0.7, 0.2], "b"),
            ([0.4, 0.2, 0.4], "a"),
            ([[0.1, 0.7, 0.2], [0, 0, 1]], ["b", "c"]),
            ([], []),
            (np.array([0.1, 0.7, 0.2]), "b"),
            (np.eye(3), ["a", "b", "c"]),
        ],
    )
    def test_of_scores(self, prediction: Any, label: str | list[str]) -> None:
        assert several().label_of(prediction) == label

    def test_threshold_without_labels(self) -> None:
        assert binary(labels=()).label_of([0.2, 0.8]) == ["negative", "positive"]

    def test_none_where_the_card_names_none(self) -> None:
        assert binary(labels=(), threshold=None).label_of(0.4) is None

    @pytest.mark.parametrize("prediction", ["0.7", float("nan"), [0.1, float("nan")], [[0.1, 0.2]], [["x"]]])
    def test_not_of_one_value(self, prediction: Any) -> None:
        with pytest.raises(InferenceError, match="cannot label"):
            binary().label_of(prediction)

    @pytest.mark.parametrize(
        "prediction", [0.7, "b", [0.1, 0.2], [0.1, 0.2, float("nan")], [[0.1, 0.2]], ["a", "b", "c"]]
    )
    def test_not_of_scores(self, prediction: Any) -> None:
        with pytest.raises(InferenceError, match="cannot label"):
            several().label_of(prediction)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"signature": THREE}, "one output value"),
        ({"threshold": None}, "need a threshold"),
        ({"threshold": float("nan")}, "must be finite"),
        ({"signature": THREE, "threshold": None}, "2 labels for 3 output values"),
        ({"artifacts": (artifact(), artifact())}, "listed twice: pump.onnx"),
        ({"artifacts": (artifact("model.yaml"),)}, "listed twice: model.yaml"),
        ({"signature": Signature((), ())}, "at least one input"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        binary(**changes)
