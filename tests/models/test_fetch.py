"""Models come whole and checked, from a folder and over HTTP, or not at all."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from tierwise.core.errors import ConfigurationError, ModelFileError, ModelIntegrityError, TransportError
from tierwise.models.card import sha256_of
from tierwise.models.fetch import fetch_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(anomaly_detector: Path) -> Iterator[str]:
    """The model's folder over HTTP."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
            pass

    handler = functools.partial(Quiet, directory=str(anomaly_detector))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    return path


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_folder_with_a_card_comes_with_all_its_artifacts(anomaly_detector: Path, tmp_path: Path) -> None:
    sha256 = sha256_of(anomaly_detector / "model.yaml")
    files = fetch_model(str(anomaly_detector), tmp_path, sha256=sha256)
    assert files[0] == tmp_path / "model.yaml"
    assert {path.name for path in files} == left_in(tmp_path)
    assert "anomaly-detector.onnx" in left_in(tmp_path)
    assert all((tmp_path / name).read_bytes() == (anomaly_detector / name).read_bytes() for name in left_in(tmp_path))


def test_card_over_http_brings_what_is_beside_it(server: str, tmp_path: Path) -> None:
    fetch_model(f"{server}/model.yaml", tmp_path)
    assert {"model.yaml", "anomaly-detector.onnx", "anomaly-detector.pt"} <= left_in(tmp_path)


def test_artifact_over_http_keeps_its_name(server: str, tmp_path: Path) -> None:
    assert fetch_model(f"{server}/anomaly-detector.onnx", tmp_path) == [tmp_path / "anomaly-detector.onnx"]


def test_only_artifact_of_a_folder_is_taken(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert fetch_model(str(file.parent), target, sha256=sha256_of(file).upper()) == [target / "model.onnx"]
    assert (target / "model.onnx").read_bytes() == b"weights"


def test_empty_checksum_checks_nothing(file: Path, tmp_path: Path) -> None:
    assert fetch_model(str(file), tmp_path / "target", sha256="")


def test_wrong_checksum_leaves_nothing_and_keeps_what_was_there(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    fetch_model(str(file), target)
    file.write_bytes(b"other weights")
    with pytest.raises(ModelIntegrityError, match="SHA-256"):
        fetch_model(str(file), target, sha256="0" * 64)
    assert left_in(target) == {"model.onnx"}
    assert (target / "model.onnx").read_bytes() == b"weights"


def test_artifact_that_is_not_the_one_of_its_card_is_refused(anomaly_detector: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(anomaly_detector, source)
    (source / "anomaly-detector.onnx").write_bytes(b"not this one")
    with pytest.raises(ModelIntegrityError, match=r"anomaly-detector\.onnx"):
        fetch_model(str(source), target)
    assert "model.yaml" not in left_in(target)
    assert not [name for name in left_in(target) if name.startswith(".")]


def test_card_whose_artifacts_are_all_missing_is_refused(anomaly_detector: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(anomaly_detector / "model.yaml", source)
    with pytest.raises(ModelFileError, match="none of the artifacts"):
        fetch_model(str(source), tmp_path / "target")


def test_too_large_a_file_is_given_up(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="more than 3 bytes"):
        fetch_model(str(file), tmp_path / "target", max_bytes=3)
    assert left_in(tmp_path / "target") == set()


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("nowhere/model.onnx", ModelFileError, "cannot be read"),
        ("model.txt", ConfigurationError, "expected model.yaml"),
        ("ftp://host/model.zip", ConfigurationError, "expected model.yaml"),
        ("http://127.0.0.1:9/model.onnx", TransportError, "cannot be downloaded"),
    ],
)
def test_source_that_cannot_be_used_is_named(tmp_path: Path, source: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fetch_model(source, tmp_path)


def test_missing_file_on_a_server_is_named(server: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file"):
        fetch_model(f"{server}/other.onnx", tmp_path)


def test_folder_with_several_artifacts_and_no_card_is_ambiguous(file: Path, tmp_path: Path) -> None:
    file.with_name("other.onnx").write_bytes(b"x")
    with pytest.raises(ModelFileError, match=r"exactly one artifact, found model\.onnx, other\.onnx"):
        fetch_model(str(file.parent), tmp_path / "target")


def test_checksum_must_be_one(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="64 hexadecimal"):
        fetch_model(str(file), tmp_path, sha256="abc")
