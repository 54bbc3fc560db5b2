"""Build script of PlatformIO: the same flags as ``tierwise device build``; targets upload and stop."""

import sys
from pathlib import Path

from SCons.Script import AlwaysBuild, Default, DefaultEnvironment

env = DefaultEnvironment()
board = env.BoardConfig()
platform_dir = Path(env.PioPlatform().get_dir())
sys.path.insert(0, str(platform_dir))
import emulate  # noqa: E402 - lies beside this platform

PREFIX = "arm-none-eabi-"
CPU = ["-mcpu=" + board.get("build.cpu"), "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"]
LAYOUT = {
    "TW_FLASH_START": board.get("build.flash_start"),
    "TW_FLASH_BYTES": hex(board.get("upload.maximum_size")),
    "TW_RAM_START": board.get("build.ram_start"),
    "TW_RAM_BYTES": hex(board.get("upload.maximum_ram_size")),
    "TW_STACK_BYTES": hex(board.get("build.stack_bytes")),
}

env.Replace(
    AR=PREFIX + "ar", AS=PREFIX + "as", CC=PREFIX + "gcc", CXX=PREFIX + "g++", LINK=PREFIX + "gcc",
    OBJCOPY=PREFIX + "objcopy", RANLIB=PREFIX + "ranlib", SIZETOOL=PREFIX + "size",
    PROGSUFFIX=".elf", PROGNAME="firmware",
    SIZEPROGREGEXP=r"^(?:\.text|\.data|\.ARM\.exidx)\s+(\d+).*",
    SIZEDATAREGEXP=r"^(?:\.data|\.bss|\.stack)\s+(\d+).*",
    SIZECHECKCMD="$SIZETOOL -A -d $SOURCES",
    SIZEPRINTCMD="$SIZETOOL -B -d $SOURCES",
)  # fmt: skip
env.Append(
    CCFLAGS=[
        *CPU, "-std=c99", "-O2", "-fno-schedule-insns", "-Wall", "-Wextra", "-ffunction-sections", "-fdata-sections",
    ],
    CPPDEFINES=[
        ("TW_INTERRUPT", board.get("build.interrupt")),
        ("TW_CLOCK_HZ", board.get("build.f_cpu").rstrip("L") + "u"),
    ],
    LINKFLAGS=[
        *CPU, "-nostartfiles", "-static", "-Wl,--gc-sections", "-Wl,--build-id=none",
        *(f"-Wl,--defsym={name}={value}" for name, value in LAYOUT.items()),
        "-T", str(Path(env.subst("$PROJECT_SRC_DIR")) / "firmware.ld"),
    ],
)  # fmt: skip


def load(*_: object, **__: object) -> None:
    """Starts the emulator with the firmware; it waits for the monitor."""
    state = Path(env.subst("$PROJECT_WORKSPACE_DIR"))
    print(emulate.start(Path(env.subst("$BUILD_DIR")) / "firmware.elf", board.get("emulator"), state))


def stop(*_: object, **__: object) -> None:
    """Ends the emulator."""
    print(emulate.stop(Path(env.subst("$PROJECT_WORKSPACE_DIR"))))


firmware = env.BuildProgram()
AlwaysBuild(env.Alias("checkprogsize", firmware, env.VerboseAction("", "")))
AlwaysBuild(env.Alias("upload", [firmware, "checkprogsize"], env.VerboseAction(load, "Loading into the emulator")))
env.AddCustomTarget("stop", None, env.VerboseAction(stop, "Stopping the emulator"), title="Stop the emulator")
Default([firmware, "checkprogsize"])
