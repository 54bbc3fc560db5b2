"""PyTorch checkpoints: ``.pt``, ``.pth`` and ``.safetensors``.

A checkpoint is ``{"architecture": name, "state_dict": weights}``, with an optional ``"signature"``; a ``.safetensors``
file has ``architecture`` in its metadata. Neither needs code from the file. A pickled module (``torch.save(model)``)
and a TorchScript archive do: they are loaded only with ``trust_pickle``.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import safetensors
import torch
from torch import nn

from tierwise.core.errors import ModelFileError, UntrustedModelError
from tierwise.runtimes.architectures import build_architecture, known_architectures
from tierwise.runtimes.files import one_line, shortened
from tierwise.runtimes.pickles import HOW_TO_SAVE, pickled_object
from tierwise.runtimes.signatures import derive_signature, parse_signature

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tierwise.core.tensors import Signature


def load_checkpoint(path: Path, *, trust_pickle: bool) -> tuple[nn.Module, Signature]:
    """The module in a ``.pt`` or ``.pth`` file, ready for inference, and its signature.

    Raises ``ModelFileError`` or, where loading would run code from the file, ``UntrustedModelError``.
    """
    members = _zip_members(path)
    if any(name.endswith("models/model.json") for name in members):
        raise ModelFileError(f"{path}: this is an exported program; name it {path.stem}.pt2")
    if any(name.endswith("/constants.pkl") for name in members):
        return _torchscript(path, trust_pickle=trust_pickle)
    content = _unpickle(path, trusted=True) if trust_pickle else _weights_only(path)
    if isinstance(content, nn.Module):
        return content.eval(), derive_signature(path, content)
    if not isinstance(content, dict):
        raise ModelFileError(f"{path}: holds a {type(content).__name__}, not a model; write it with {HOW_TO_SAVE}")
    if "architecture" not in content or not isinstance(content.get("state_dict"), dict):
        raise ModelFileError(
            f"{path}: holds weights without the name of their architecture; write it with {HOW_TO_SAVE}, "
            f"NAME being one of {', '.join(known_architectures()) or 'none registered yet'}"
        )
    return _restored(path, content["architecture"], content["state_dict"], content.get("signature"))


def load_safetensors(path: Path) -> tuple[nn.Module, Signature]:
    """The module in a ``.safetensors`` file, ready for inference, and its signature. Raises ``ModelFileError``."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except Exception as error:
        raise ModelFileError(f"{path}: truncated or damaged .safetensors file: {one_line(error)}") from error
    if "architecture" not in metadata:
        raise ModelFileError(
            f"{path}: holds weights without the name of their architecture; write it with "
            'safetensors.torch.save_file(model.state_dict(), FILE, {"architecture": NAME}), '
            f"NAME being one of {', '.join(known_architectures()) or 'none registered yet'}"
        )
    signature = metadata.get("signature")
    return _restored(path, metadata["architecture"], weights, signature.encode() if signature else None)


def _zip_members(path: Path) -> list[str]:
    """Names in the archive; empty where it is none (``torch.save`` before 1.6 wrote plain pickles)."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return []


def _weights_only(path: Path) -> object:
    try:
        return _unpickle(path, trusted=False)
    except pickle.UnpicklingError as error:
        if classes := _refused_classes(path, error):
            raise pickled_object(path, classes) from error
        raise ModelFileError(f"{path}: truncated, damaged or not a PyTorch checkpoint") from error
    except Exception as error:
        raise ModelFileError(f"{path}: truncated, damaged or not a PyTorch checkpoint: {one_line(error)}") from error


def _unpickle(path: Path, *, trusted: bool) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickle protocols and moved classes: what matters comes as an error
        if not trusted:
            return torch.load(path, map_location="cpu", weights_only=True)
        try:
            return torch.load(path, map_location="cpu", weights_only=False)
        except (ImportError, AttributeError) as error:
            raise ModelFileError(
                f"{path}: the class of the pickled module cannot be imported here: {one_line(error)}. "
                f"Put its source on PYTHONPATH, or save the weights with {HOW_TO_SAVE}"
            ) from error
        except Exception as error:
            raise ModelFileError(f"{path}: truncated, damaged or not a PyTorch file: {one_line(error)}") from error


def _refused_classes(path: Path, error: pickle.UnpicklingError) -> set[str]:
    """What the file wanted to call beyond plain weights; empty where it is merely nonsense."""
    try:
        return set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # noqa: BLE001  # not an archive that it can list: then the message has to do
        return set(re.findall(r"(?:GLOBAL|global:?|class) ([A-Za-z_][\w.]*\.\w+)", str(error)))


def _torchscript(path: Path, *, trust_pickle: bool) -> tuple[nn.Module, Signature]:
    if not trust_pickle:
        raise UntrustedModelError(
            f"{path}: is a TorchScript archive, a program that may also read and write files. Export the model to "
            ".pt2 (torch.export) or .onnx; if you trust the file, pass --trust-pickle"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch deprecates TorchScript, and still runs it
            module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]  # PyTorch left it so
    except Exception as error:
        raise ModelFileError(f"{path}: truncated or damaged TorchScript archive: {one_line(error)}") from error
    return module.eval(), derive_signature(path, module)


def _restored(
    path: Path, architecture: object, weights: Mapping[str, Any], signature: object
) -> tuple[nn.Module, Signature]:
    module = build_architecture(path, architecture)
    try:
        module.load_state_dict(weights)
    except Exception as error:
        told = shortened(str(error))
        raise ModelFileError(f"{path}: its weights do not fit the architecture {architecture!r}: {told}") from error
    found = signature if signature is not None else getattr(module, "signature", None)
    module.eval()
    return module, derive_signature(path, module) if found is None else parse_signature(path, found)
