"""What is told of a checkpoint's pickle without PyTorch: only what PyTorch would refuse as well."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
from tests.components import need
from tests.runtimes.damage import damaged

from tierwise.core.errors import ModelError, ModelFileError, UntrustedModelError
from tierwise.runtimes.pickles import check_pickle

if TYPE_CHECKING:
    from pathlib import Path

need(package="torch")

import torch  # noqa: E402  after the check that names it when it is missing
from torch import nn  # noqa: E402

from tierwise.runtimes.checkpoints import load_checkpoint  # noqa: E402

WEIGHTS = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(4, 2)).state_dict()
UNKNOWN = {"architecture": "mine", "state_dict": WEIGHTS}


class Müller:  # noqa: PLC2401 -- names of any language
    """An author's own class."""


def saved(path: Path, content: object, *, zipped: bool = True, protocol: int = 2) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    return path


def with_pickle(source: Path, target: Path, content: bytes) -> Path:
    """A copy of a checkpoint with another ``data.pkl``."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.infolist():
            new.writestr(member, content if member.filename.endswith("/data.pkl") else old.read(member))
    return target


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        {"architecture": "digits", "state_dict": WEIGHTS},
        {"state_dict": WEIGHTS, "architecture": "mine"},
        {"names": ["architecture", "mine"], "nested": {"architecture": "mine", "b": 1}},
        WEIGHTS,
        nn.Parameter(torch.ones(2)),
        torch.ones(2).to_sparse(),
        [torch.float16, torch.device("cpu"), torch.Size([1]), OrderedDict(a=1), Counter("ab"), {1}, 1j, b"1"],
        "text",
    ],
)
def test_what_pytorch_loads_passes(tmp_path: Path, content: object, *, zipped: bool) -> None:
    path = saved(tmp_path / "x.pt", content, zipped=zipped)
    torch.load(path, weights_only=True)  # raises where it does not
    check_pickle(path)
    assert path.exists()


@pytest.mark.parametrize("protocol", [3, 4])
def test_what_is_not_certain_passes(tmp_path: Path, protocol: int) -> None:
    check_pickle(saved(tmp_path / "other-language.pt", Müller(), protocol=protocol))
    long = saved(tmp_path / "long.pt", [*range(400_000), nn.Linear(4, 2)])
    check_pickle(long)
    assert long.stat().st_size > 1_000_000


def test_an_archive_without_checksums_passes(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(compute_crc32=False)
    try:
        path = saved(tmp_path / "x.pt", WEIGHTS)
    finally:
        torch.serialization.set_crc32_options(compute_crc32=True)
    torch.load(path, weights_only=True)
    check_pickle(path)
    assert path.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_an_unknown_architecture_is_told(tmp_path: Path, *, zipped: bool) -> None:
    path = saved(tmp_path / "x.pt", UNKNOWN, zipped=zipped)
    with pytest.raises(ModelFileError, match=r"unknown architecture 'mine'; known are .*digits"):
        check_pickle(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("content", [nn.Sequential(nn.Linear(4, 2)), {"architecture": "digits", "extra": print}])
def test_it_says_of_a_pickled_object_what_pytorch_makes_us_say(
    tmp_path: Path, content: object, *, zipped: bool
) -> None:
    path = saved(tmp_path / "x.pt", content, zipped=zipped)
    with pytest.raises(UntrustedModelError, match="--trust-pickle") as early:
        check_pickle(path)
    with pytest.raises(ModelError) as late:
        load_checkpoint(path, trust_pickle=False)
    # Of the old form PyTorch names the first class only, or none.
    assert str(early.value) == str(late.value) or not zipped


def test_a_bare_pickle_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ModelFileError, match="truncated, damaged or not a PyTorch checkpoint"):
        check_pickle(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_whatever_is_refused_would_be_refused_by_pytorch(
    anomaly_detector: Path, tmp_path: Path, *, zipped: bool
) -> None:
    whole: Any = torch.load(next(anomaly_detector.glob("*.pt")), weights_only=True)
    source, copy = saved(tmp_path / "whole.pt", whole, zipped=zipped), tmp_path / "copy.pt"
    with zipfile.ZipFile(source) if zipped else source.open("rb") as file:
        content = file.read("whole/data.pkl") if isinstance(file, zipfile.ZipFile) else file.read()[:2000]
    refused = 0
    for seed in range(200):
        if zipped:
            with_pickle(source, copy, damaged(content, seed))
        else:
            copy.write_bytes(damaged(content, seed) + source.read_bytes()[2000:])
        try:
            check_pickle(copy)
        except ModelError:
            refused += 1
            with pytest.raises(ModelError):
                load_checkpoint(copy, trust_pickle=False)
    assert refused > 40, "much damage to a pickle can be told"


@pytest.mark.parametrize(
    ("fault", "said"),
    [("cut pickle", "damaged"), ("architecture", "unknown architecture 'mine'"), ("module", "--trust-pickle")],
)
def test_it_is_told_without_importing_pytorch(tmp_path: Path, fault: str, said: str) -> None:
    path = saved(tmp_path / "x.pt", nn.Linear(4, 2) if fault == "module" else UNKNOWN)
    if fault == "cut pickle":
        with zipfile.ZipFile(path) as archive:
            content = archive.read("x/data.pkl")
        path = with_pickle(path, tmp_path / "cut.pt", content[: len(content) // 2])
    code = (
        "import sys, pathlib\nfrom tierwise.runtimes import load_runtime\nfrom tierwise.core.errors import ModelError\n"
        "try: load_runtime(pathlib.Path(sys.argv[1]))\nexcept ModelError as error: print('torch' in sys.modules, error)"
    )
    output = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
    assert output.startswith("False ")
    assert said in output


def test_a_safetensors_file_of_an_unknown_architecture_is_told_without_importing_pytorch(tmp_path: Path) -> None:
    need(package="safetensors")
    from safetensors.torch import save_file  # noqa: PLC0415  after the check

    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(1)}, path, {"architecture": "mine"})
    code = (
        "import sys, pathlib\nfrom tierwise.runtimes import load_runtime\nfrom tierwise.core.errors import ModelError\n"
        "try: load_runtime(pathlib.Path(sys.argv[1]))\nexcept ModelError as error: print('torch' in sys.modules, error)"
    )
    output = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
    assert output.startswith("False ")
    assert "unknown architecture 'mine'" in output
