"""The command line: overview, exit codes, predict and model."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import numpy as np
import pytest
from click.testing import CliRunner

from tierwise.cli import COMMANDS, exit_code, tierwise
from tierwise.cli.predict import predict
from tierwise.core.errors import (
    ConfigurationError,
    DeadlineExceededError,
    InferenceError,
    InvalidInputError,
    ModelFileError,
    OverloadedError,
    TierwiseError,
    TransportError,
)
from tierwise.serving.settings import fields

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tierwise", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def samples(model: Path) -> np.ndarray:
    with np.load(model / "samples.npz", allow_pickle=False) as archive:
        features: np.ndarray = archive["features"][:5]
    return features


def _path(first: Path) -> str:
    return os.pathsep.join([str(first), os.environ.get("PYTHONPATH", "")])


def test_the_overview_names_every_command_and_imports_none() -> None:
    code = "import sys; from tierwise.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print([name for name in sys.modules if name in ('numpy', 'torch', 'uvicorn', 'onnxruntime', 'rich')])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name in COMMANDS:
        assert f"\n  {name} " in output
    assert output.rstrip().endswith("[]")


def test_a_bare_artifact_needs_neither_yaml_nor_scenarios(anomaly_detector: Path, tmp_path: Path) -> None:
    artifact = shutil.copy(anomaly_detector / "anomaly-detector.onnx", tmp_path)
    code = "import sys; from tierwise.cli import main\n"
    code += f"try: main(['predict', '--model', {str(artifact)!r}, '--input', '-'])\nexcept SystemExit: pass\n"
    code += "print([name for name in sys.modules if name in ('pydantic', 'ruamel.yaml', 'rich', 'starlette')])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(samples(anomaly_detector).tolist()),
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(done.stdout.splitlines()) == 6, "five samples, and the modules"
    assert done.stdout.endswith("\n[]\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(tierwise, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


@pytest.mark.parametrize(
    ("path", "command"), [pytest.param(*each, id=" ".join(each[0])) for each in commands(tierwise)]
)
def test_every_command_explains_each_option_and_gives_an_example_that_it_accepts(
    path: tuple[str, ...], command: click.Command
) -> None:
    assert [option.name for option in command.params if isinstance(option, click.Option) and not option.help] == []
    assert len(path) == 1 or not command.get_short_help_str(limit=68).endswith("..."), "its line in the overview"
    title, *words = shlex.split(command.epilog or "")
    assert (title, tuple(words[: len(path) + 1])) == ("Example:", ("tierwise", *path))
    command.make_context(path[-1], words[len(path) + 1 :])


def test_a_locale_without_the_character_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "said.py").write_text("import click\n@click.command\ndef say(): print('0.6 \\xb5J')\n")
    code = (
        "from tierwise import cli\ncli.COMMANDS['say'] = ('said:say', 'As the table of the demo.')\ncli.main(['say'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": _path(tmp_path)},
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "0.6 \\xb5J\n"), done.stderr


def test_help_of_a_service_has_a_section_for_each_group_of_settings() -> None:
    output = CliRunner().invoke(tierwise, ["serve", "--help"]).output
    sections = [line for line in output.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert sections[:3] == ["Which model is served, and how it is executed:", "The service:", "The MQTT transport:"]
    assert len(sections) == 9
    for field in fields():
        assert f"  {field.setting.option} " in output or f"  {field.setting.option}\n" in output


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), 2),
        (ModelFileError("x"), 2),
        (InvalidInputError("x"), 2),
        (TransportError("x"), 1),
        (InferenceError("x"), 1),
        (OverloadedError("x"), 1),
        (DeadlineExceededError("x"), 1),
    ],
)
def test_bad_input_is_2_and_failed_work_is_1(error: TierwiseError, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--model", "/nowhere/model.onnx"], "no model at /nowhere/model.onnx"),
        (["serve", "--model", "x.onnx", "--mqtt", "a:b:c:d:"], "expected HOST:PORT or 'off'"),
        (["serve", "--model", "x.onnx", "--mqtt", "off", "--http", "off"], "both off"),
        (["serve"], "Missing option '--model'"),
        (["nothing"], "No such command 'nothing'"),
        (["simulat"], "No such command 'simulat' (did you mean `simulate`?)"),
        (["predict", "--model", "x.onnx", "--input", "samples.xls"], "expected a file with the suffix"),
        (["predict", "--model", "x.onnx", "--input", "nothing.csv"], "No such file"),
        (["model", "inspect", "nothing.onnx"], "no model at nothing.onnx"),
        (["serve", "--model", "m" * 300, "--mqtt", "off"], "File name too long"),
        (["model", "create", "nothing"], "nothing"),
        (["model", "create", "digits", "--out", "m" * 300], "File name too long"),
    ],
)
def test_usage_errors_exit_2_with_a_reason_and_no_traceback(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("cut_short", ["", "except KeyboardInterrupt: raise ImportError('half of it is missing')"])
def test_ctrl_c_during_a_slow_import_is_130_and_no_traceback(tmp_path: Path, cut_short: str) -> None:
    slow = "import time\nprint('loading', flush=True)\ntry: time.sleep(3600)\n"
    (tmp_path / "onnxruntime.py").write_text(slow + (cut_short or "finally: pass"))
    (tmp_path / "model.onnx").write_bytes(b"a model")
    (tmp_path / "samples.json").write_text("[1, 2]")
    with subprocess.Popen(
        [sys.executable, "-m", "tierwise", "predict", "--model", "model.onnx", "--input", "samples.json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": _path(tmp_path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert said.strip() == "tierwise: interrupted; what was started has been ended"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["demo", "--help"], ["predict", "--model", "{model}", "--input", "-"]]
)
def test_a_reader_that_goes_away_causes_no_traceback(anomaly_detector: Path, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "tierwise", *(word.format(model=anomaly_detector) for word in arguments)],
        input=json.dumps(samples(anomaly_detector).tolist()),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_predict_gives_the_same_from_every_file_form(anomaly_detector: Path, tmp_path: Path) -> None:
    features = samples(anomaly_detector)
    np.save(tmp_path / "s.npy", features)
    np.savetxt(tmp_path / "s.csv", features, delimiter=",", header=",".join(f"band{n}" for n in range(32)), comments="")
    (tmp_path / "s.json").write_text(json.dumps(features.tolist()))
    (tmp_path / "named.json").write_text(json.dumps({"features": features.tolist()}))
    seen = []
    for name in ("s.npy", "s.csv", "s.json", "named.json"):
        arguments = ["--model", str(anomaly_detector), "--input", str(tmp_path / name), "--json"]
        result = CliRunner().invoke(predict, arguments, catch_exceptions=False)
        body = json.loads(result.output)
        assert body.keys() == {"prediction", "inference_time_ms", "model", "model_version", "runtime", "label"}
        assert len(body["prediction"]) == len(body["label"]) == 5
        seen.append(body["prediction"])
    for prediction in seen[1:]:
        assert prediction == pytest.approx(seen[0], abs=1e-6)


def test_predict_reads_standard_input_and_prints_one_line_a_sample(anomaly_detector: Path) -> None:
    features = samples(anomaly_detector)
    as_csv = "\n".join(",".join(map(str, row)) for row in features.tolist())
    for stdin in (as_csv, json.dumps(features.tolist())):
        result = CliRunner().invoke(predict, ["--model", str(anomaly_detector), "--input", "-"], input=stdin)
        lines = result.output.splitlines()
        assert len(lines) == 5
        for line in lines:
            value, _, label = line.partition("\t")
            assert 0 <= float(value) <= 1
            assert label in {"normal", "faulty"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("1,2,3", "expected 32 values"),
        ("1,2\n3", "row 2 has 1 values, the first one 2"),
        ("a,b\nc,d", "row 2"),
        ("", "no samples"),
        ("[1, 2", "truncated"),
        ('{"features": "x"}', "features"),
    ],
)
def test_predict_tells_what_is_wrong_with_the_samples(anomaly_detector: Path, content: str, said: str) -> None:
    result = run("predict", "--model", str(anomaly_detector), "--input", "-", stdin=content)
    assert result.returncode == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_predict_refuses_a_pickled_array(anomaly_detector: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    result = run("predict", "--model", str(anomaly_detector), "--input", str(tmp_path / "evil.npy"))
    assert result.returncode == 2
    assert "not a readable .npy file" in result.stderr


@pytest.mark.parametrize("suffix", [".onnx", "-int8.tflite", "r.tflite", ".pt", ".pt2", ".safetensors"])
def test_inspect_tells_the_signature_of_every_artifact(anomaly_detector: Path, suffix: str) -> None:
    file = next(anomaly_detector.glob(f"*{suffix}"))
    result = CliRunner().invoke(tierwise, ["model", "inspect", str(file), "--json"], catch_exceptions=False)
    facts = json.loads(result.output[result.output.index("{") :])
    (tensor,) = facts["signature"]["inputs"]
    assert (tensor["name"], tensor["shape"]) == ("features", [None, 32])
    (tensor,) = facts["signature"]["outputs"]
    assert (tensor["name"], tensor["shape"]) == ("probability", [None, 1])
    assert facts["model"] == "anomaly-detector"
    text = CliRunner().invoke(tierwise, ["model", "inspect", str(file)], catch_exceptions=False).output
    assert "features" in text
    assert "probability" in text
    assert facts["sha256"] in text
