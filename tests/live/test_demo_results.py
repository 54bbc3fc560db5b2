"""What a run leaves behind."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.components import need
from tests.report.traces import live_trace

from tierwise.core.errors import ConfigurationError
from tierwise.core.tensors import Signature, TensorSpec
from tierwise.core.trace import read_trace_csv
from tierwise.live.results import make_folder, model_facts, write_results
from tierwise.models.card import Artifact, DataSource, ModelCard
from tierwise.report.summary import TierFacts, summarise

if TYPE_CHECKING:
    from pathlib import Path

CARD = ModelCard(
    name="anomaly-detector",
    version="1.0.0",
    description="Tells <faulty> from normal.",
    task="binary-classification",
    signature=Signature((TensorSpec("x", (None, 32), "float32"),), (TensorSpec("y", (None, 1), "float32"),)),
    labels=("normal", "faulty"),
    threshold=0.5,
    metrics={"accuracy": 0.97},
    data=DataSource(name="bearings", source="a simulation"),
    artifacts=(
        Artifact(
            file="model.onnx", format="onnx", runtimes=("onnx",), dtype="float32", size_bytes=1234, sha256="ab" * 32
        ),
    ),
)
FACTS = {"edge": TierFacts("onnx", "model.onnx")}


def test_trace_report_and_picture_tell_the_same_run(tmp_path: Path) -> None:
    need(package="matplotlib")
    rows = live_trace(requests=20)
    files = write_results(
        summarise(rows, facts=FACTS), rows, CARD, command="tierwise demo", broker="mosquitto", out=tmp_path
    )
    assert read_trace_csv(files.trace) == rows
    page = files.report.read_text(encoding="utf-8")
    assert "Tells &lt;faulty&gt; from normal." in page
    assert "model.onnx, 1,234 bytes, SHA-256 abababababababab…" in page
    assert files.figure is not None
    assert files.figure.read_bytes().startswith(b"\x89PNG")
    assert files.note is None


def test_without_matplotlib_the_rest_is_written_and_an_old_picture_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (tmp_path / "demo.png").write_bytes(b"of another run")
    rows = live_trace(requests=5)
    files = write_results(summarise(rows), rows, CARD, command="tierwise demo", broker="mosquitto", out=tmp_path)
    assert files.figure is None
    assert files.note is not None
    assert "tierwise[plot]" in files.note
    assert not (tmp_path / "demo.png").exists()
    assert files.report.exists()


def test_a_run_without_an_answer_is_written_down_all_the_same(tmp_path: Path) -> None:
    rows = [
        msgspec.structs.replace(row, outcome="timeout", answered_us=None, label=None) for row in live_trace(requests=5)
    ]
    files = write_results(summarise(rows), rows, CARD, command="tierwise demo", broker="mosquitto", out=tmp_path)
    assert len(read_trace_csv(files.trace)) == 10
    assert files.figure is None


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot write results to .*file/demo \(--out\)"):
        make_folder(tmp_path / "file" / "demo")
    (tmp_path / "trace.csv").mkdir()
    rows = live_trace(requests=1)
    with pytest.raises(ConfigurationError, match=r"cannot write .*trace\.csv"):
        write_results(summarise(rows), rows, CARD, command="tierwise demo", broker="mosquitto", out=tmp_path)


def test_the_page_names_the_file_of_each_tier_and_leaves_out_what_is_unknown() -> None:
    facts = model_facts(
        msgspec.structs.replace(CARD, threshold=None, labels=(), data=None), summarise(live_trace(), facts=FACTS)
    )
    assert facts["at the edge"].startswith("model.onnx")
    assert "in the cloud" not in facts
    assert not {"threshold", "labels"} & set(facts)
    assert "data" not in facts
