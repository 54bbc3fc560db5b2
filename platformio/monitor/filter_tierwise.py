"""Monitor filter: frames of the device become lines of text, typed lines become frames.

``info`` asks what the device runs; a line of numbers (separated by commas or spaces) is one sample and is answered
with its outputs; ``.`` is a sample of zeros.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from platformio.public import DeviceMonitorFilterBase

from tierwise.core.tensors import TensorSpec
from tierwise.device.frames import Decoder, Frame, FrameType, encode
from tierwise.runtimes.quantization import dequantize, quantize


class Tierwise(DeviceMonitorFilterBase):
    """The text side of the serial protocol."""

    NAME = "tierwise"

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        super().__init__(options)
        self._decoder = Decoder()
        self._typed = ""
        self._sequence = 0
        self._inputs: list[TensorSpec] = []
        self._outputs: list[TensorSpec] = []

    def set_running_terminal(self, terminal: Any) -> None:  # noqa: ANN401 - PlatformIO's own class
        # Frames are bytes: a character for each.
        terminal.set_rx_encoding("Latin-1")
        terminal.set_tx_encoding("Latin-1")
        super().set_running_terminal(terminal)

    def rx(self, text: str) -> str:
        return "".join(self._tell(frame) for frame in self._decoder.feed(text.encode("latin-1")))

    def tx(self, text: str) -> str:
        self._typed += text.replace("\r", "\n")
        sent = b""
        while "\n" in self._typed:
            line, self._typed = self._typed.split("\n", 1)
            sent += self._command(line.strip())
        return sent.decode("latin-1")

    def _frame(self, kind: FrameType, payload: bytes = b"") -> bytes:
        self._sequence = self._sequence % 255 + 1
        return encode(Frame(kind, self._sequence, payload))

    def _command(self, line: str) -> bytes:
        if not line:
            return b""
        if line == "info":
            return self._frame(FrameType.INFO)
        try:
            return self._frame(FrameType.INFER, self._sample(line))
        except ValueError as error:
            print(f"\r\n{error}\r\n", end="")
            return b""

    def _sample(self, line: str) -> bytes:
        sizes = [spec.sample_size or 1 for spec in self._inputs]
        numbers = [0.0] * sum(sizes) if line == "." else [float(part) for part in line.replace(",", " ").split()]
        if len(numbers) != sum(sizes):
            raise ValueError(f"a sample has {sum(sizes)} numbers, not {len(numbers)}")
        payload, at = b"", 0
        for spec, size in zip(self._inputs, sizes, strict=True):
            values = np.array(numbers[at : at + size], np.float32)
            payload += (values if spec.scale is None else quantize(values, spec)).tobytes()
            at += size
        return payload

    def _tell(self, frame: Frame) -> str:
        if frame.type == FrameType.READY:
            # Ask at once what it is: samples need its input's scale.
            self.get_running_terminal().serial.write(self._frame(FrameType.INFO))
            return f"READY protocol {frame.payload[0]}, model CRC32 {struct.unpack('<I', frame.payload[1:5])[0]:08x}\n"
        if frame.type == FrameType.INFO:
            info = json.loads(frame.payload)
            self._inputs, self._outputs = (
                [
                    TensorSpec(p["name"], tuple(p["shape"]), p["dtype"], p.get("scale"), p.get("zero_point"))
                    for p in info[side]
                ]
                for side in ("inputs", "outputs")
            )
            ports = ", ".join(f"{spec}" for spec in (*self._inputs, *self._outputs))
            return f"INFO {info['model']} {info['version']} on {info['target']}: {ports}\n"
        if frame.type == FrameType.INFER:
            return self._tell_inference(frame.payload)
        if frame.type == FrameType.ERROR:
            return f"ERROR {frame.payload[0]}: {frame.payload[1:].decode('ascii', 'replace')}\n"
        return f"frame of type {frame.type} with {len(frame.payload)} bytes\n"

    def _tell_inference(self, payload: bytes) -> str:
        instructions, stack = struct.unpack_from("<II", payload)
        texts, at = [], 8
        for spec in self._outputs:
            raw = np.frombuffer(payload, spec.dtype, count=int(np.prod(spec.shape)), offset=at)
            at += raw.nbytes
            real = raw if spec.scale is None else dequantize(raw, spec)
            texts.append(" ".join(f"{value:.6g}" for value in real))
        return f"INFER {'; '.join(texts)} ({instructions} instructions, {stack} bytes of stack)\n"
