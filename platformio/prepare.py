"""Prepares this folder for PlatformIO without its download server (``make platformio`` calls it).

The generated C of a model goes into ``build/``; SCons from PyPI takes the place of PlatformIO's own package of it.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

from tierwise.core.errors import TierwiseError
from tierwise.device.build import Options, build
from tierwise.device.machines import NETDUINOPLUS2

HERE = Path(__file__).resolve().parent
SCONS_VERSION = "4.41101.0"
"""As PlatformIO 6.2.0 numbers SCons 4.11.1."""


def scons_package(core: Path) -> Path:
    """A package ``tool-scons`` that runs the SCons of this Python."""
    folder = core / "packages" / "tool-scons"
    folder.mkdir(parents=True, exist_ok=True)
    described = {"name": "tool-scons", "version": SCONS_VERSION, "description": "SCons from PyPI"}
    (folder / "package.json").write_text(json.dumps(described) + "\n")
    (folder / "scons.py").write_text("from SCons.Script import main\n\nmain()\n")
    origin = {"owner": "platformio", "name": "tool-scons", "requirements": None, "uri": None, "id": None}
    metadata = {"type": "tool", "name": "tool-scons", "version": SCONS_VERSION, "spec": origin}
    (folder / ".piopm").write_text(json.dumps(metadata) + "\n")
    return folder


def main() -> int:
    """Command line: the .tflite file to build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="an int8 .tflite file")
    arguments = parser.parse_args()
    try:
        report = build(arguments.model, HERE / "build", Options())
    except TierwiseError as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 1
    if report.target != NETDUINOPLUS2.name:
        print(f"prepare: {report.model} needs the machine {report.target}; use `tierwise device run`", file=sys.stderr)
        return 1
    scons_package(HERE / ".core")
    print(f"{report.model} is in {HERE.name}/build/src (SCons {version('scons')}).")
    pio = "pio" if shutil.which("pio") else str(Path(sys.executable).with_name("pio"))
    activate = Path(sys.prefix, "bin", "activate")
    is_hidden = "VIRTUAL_ENV" not in os.environ and activate.is_file()  # `make` puts pio on its own PATH only
    steps = [f". {shlex.quote(str(activate))}"] if is_hidden else []
    steps += [f"cd {HERE.name}", f"{pio} run", f"{pio} run -t upload", f"{pio} device monitor"]
    print(f"Now: {' && '.join(steps)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
