"""Brings a model to where a service reads it, and checks it on the way.

What the service sees is always whole: every file is written beside its place, checked, and then renamed.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tierwise.core.errors import ConfigurationError, ModelFileError, ModelIntegrityError, TransportError
from tierwise.models.card import CARD_NAME, load_card

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES = frozenset({".onnx", ".tflite", ".pt", ".pth", ".pt2", ".safetensors"})
MAX_BYTES = 4 * 1024**3
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 30.0
_SHA256 = re.compile("[0-9a-f]{64}")


def fetch_model(source: str, folder: Path, *, sha256: str | None = None, max_bytes: int = MAX_BYTES) -> list[Path]:
    """Copies a model into ``folder`` and returns its files.

    ``source`` is a path or an ``http(s)`` URL: of an artifact, or of a model card, whose artifacts then come along from
    beside it (those that are there), each checked against its hash in the card. A folder stands for its ``model.yaml``
    or, without one, for its only artifact. ``sha256`` is that of the file that ``source`` names, in hexadecimal.

    Raises ``ModelFileError`` where there is no such file, ``ModelIntegrityError`` where one is not what it should be,
    ``TransportError`` where a download fails, ``ConfigurationError`` for what cannot be meant.
    """
    expected = sha256.lower() if sha256 else None
    if expected is not None and not _SHA256.fullmatch(expected):
        raise ConfigurationError(f"--sha256: expected 64 hexadecimal digits, got {sha256!r}")
    folder.mkdir(parents=True, exist_ok=True)
    location = source if _is_url(source) else str(_main_file(Path(source)))
    name = Path(urllib.parse.urlsplit(location).path if _is_url(location) else location).name
    if name != CARD_NAME and Path(name).suffix not in SUFFIXES:
        raise ConfigurationError(f"{source}: expected {CARD_NAME} or a file with one of {', '.join(sorted(SUFFIXES))}")
    if name != CARD_NAME:
        return [_copy(location, folder / name, expected, max_bytes)]
    # The card comes first to be read, and last to be seen: whoever finds it finds all that it names.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as aside:
        card_file = _copy(location, Path(aside) / CARD_NAME, expected, max_bytes)
        card = load_card(card_file)
        files = []
        for artifact in card.artifacts:
            try:
                files.append(
                    _copy(_beside(location, artifact.file), folder / artifact.file, artifact.sha256, max_bytes)
                )
            except ModelFileError:
                continue  # a tier is given only the artifacts that it can run
        if not files:
            raise ModelFileError(f"{location}: none of the artifacts that it lists is there")
        return [card_file.replace(folder / CARD_NAME), *files]


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _main_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    if (path / CARD_NAME).is_file():
        return path / CARD_NAME
    artifacts = sorted(entry for entry in path.iterdir() if entry.suffix in SUFFIXES and entry.is_file())
    if len(artifacts) != 1:
        names = ", ".join(entry.name for entry in artifacts) or "none"
        raise ModelFileError(f"{path}: expected {CARD_NAME} or exactly one artifact, found {names}")
    return artifacts[0]


def _beside(location: str, name: str) -> str:
    if _is_url(location):
        return urllib.parse.urljoin(location, urllib.parse.quote(name))
    return str(Path(location).with_name(name))


def _copy(location: str, target: Path, sha256: str | None, max_bytes: int) -> Path:
    digest = hashlib.sha256()
    size = 0
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as output:
            for chunk in _chunks(location):
                size += len(chunk)
                if size > max_bytes:
                    raise ModelFileError(f"{location}: has more than {max_bytes} bytes")
                digest.update(chunk)
                output.write(chunk)
            os.fsync(output.fileno())
        if sha256 is not None and digest.hexdigest() != sha256:
            raise ModelIntegrityError(f"{location}: its SHA-256 is {digest.hexdigest()}, expected {sha256}")
        partial.chmod(0o644)
        return partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _chunks(location: str) -> Iterator[bytes]:
    try:
        with _open(location) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
    except urllib.error.HTTPError as error:
        if error.code in {404, 410}:
            raise ModelFileError(f"{location}: there is no such file ({error.code})") from error
        raise TransportError(f"{location}: the server answers {error.code} {error.reason}") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise TransportError(f"{location}: cannot be downloaded: {getattr(error, 'reason', error)}") from error
    except OSError as error:
        raise ModelFileError(f"{location}: cannot be read: {error.strerror or error}") from error


def _open(location: str) -> BinaryIO:
    if _is_url(location):
        stream: BinaryIO = urllib.request.urlopen(location, timeout=_TIMEOUT_S)  # noqa: S310  only http(s) gets here
        return stream
    return Path(location).open("rb")
