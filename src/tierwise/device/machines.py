"""The machines that QEMU emulates and the firmware is linked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Machine:
    """One QEMU machine. Addresses and sizes in bytes."""

    name: str
    """As ``qemu-system-arm -machine`` spells it."""
    hal: str
    """Its source file in ``c/firmware``."""
    flash_start: int
    flash_bytes: int
    ram_start: int
    ram_bytes: int
    interrupt: int
    """Number of the UART's receive interrupt."""
    clock_hz: int
    """Of the SysTick timer, for the firmware's idle timeout; instructions take 1 ns each under emulation."""
    source: str


CPU_FLAGS: Final = ("-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard")

NETDUINOPLUS2: Final = Machine(
    name="netduinoplus2",
    hal="machine_netduinoplus2.c",
    flash_start=0x08000000,
    flash_bytes=1 << 20,
    ram_start=0x20000000,
    ram_bytes=128 << 10,
    interrupt=37,
    clock_hz=168_000_000,
    source="STM32F405xx datasheet DS8626; QEMU 7.2 hw/arm/stm32f405_soc.c",
)
MPS2: Final = Machine(
    name="mps2-an386",
    hal="machine_mps2.c",
    flash_start=0x00000000,
    flash_bytes=4 << 20,
    ram_start=0x20000000,
    ram_bytes=4 << 20,
    interrupt=0,
    clock_hz=25_000_000,
    source="ARM application note AN386; QEMU 7.2 hw/arm/mps2.c",
)

MACHINES: Final = {machine.name: machine for machine in (NETDUINOPLUS2, MPS2)}
"""In the order in which a build tries them."""
