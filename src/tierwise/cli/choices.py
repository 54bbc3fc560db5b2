"""Words that several commands let one choose from, as click shows and checks them."""

from __future__ import annotations

import click

RUNTIME = click.Choice(["onnx", "litert", "torch", "tflm"])
