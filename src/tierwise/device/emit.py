"""The generated C: ``model.h`` and ``model.c``, readable, with the names of tensors in comments."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tierwise.device.step import Alias, Constant, Field, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from tierwise.device.graph import Graph, Tensor
    from tierwise.device.memory import MemoryPlan

_VALUES_A_LINE = 24
_STRUCTS = {"tw_channel", "tw_fast_channel"}
"""Element types whose rows are initialisers of structs."""


def emit_header(graph: Graph, plan: MemoryPlan, info: str) -> str:
    """``model.h``: sizes and the one function that runs the model."""
    input_bytes = sum(tensor.bytes for tensor in graph.inputs)
    output_bytes = sum(tensor.bytes for tensor in graph.outputs)
    ports = [_describe("input", index, tensor) for index, tensor in enumerate(graph.inputs)]
    ports += [_describe("output", index, tensor) for index, tensor in enumerate(graph.outputs)]
    return f"""\
/* {_comment(graph.name)}: generated from a .tflite file of {graph.model_bytes} bytes with CRC32 {graph.crc32:08x}.
 *
{chr(10).join(" * " + port for port in ports)}
 */
#ifndef TW_MODEL_H
#define TW_MODEL_H

#include <stdint.h>

#define TW_MODEL_CRC32 UINT32_C(0x{graph.crc32:08x})
#define TW_INPUT_COUNT {len(graph.inputs)}
#define TW_OUTPUT_COUNT {len(graph.outputs)}
#define TW_INPUT_BYTES {input_bytes} /* of all inputs, one behind the other */
#define TW_OUTPUT_BYTES {output_bytes}
#define TW_ARENA_BYTES {plan.arena_bytes}
#define TW_INFO_BYTES {len(info.encode())}

typedef struct {{
    void *data; /* in the arena */
    int32_t bytes;
}} tw_port;

extern const tw_port tw_inputs[TW_INPUT_COUNT];
extern const tw_port tw_outputs[TW_OUTPUT_COUNT];

/* What the model is, as JSON without a terminating zero. */
extern const char tw_info[TW_INFO_BYTES];

/* Fill the inputs, run, read the outputs. Inputs do not survive: their memory is used again. */
void tw_run(void);

#endif
"""


def emit_source(graph: Graph, steps: Sequence[Step | Alias], plan: MemoryPlan, info: str) -> str:
    """``model.c``: constants, params and ``tw_run``."""
    head = f"""\
/* {_comment(graph.name)}: constants in flash, activations in one arena. Generated; do not edit. */
#include "model.h"

#include "tw_kernels.h"

/* Words, so that every tensor is aligned for the widest load. */
static uint32_t arena[TW_ARENA_BYTES / 4];
#define AT(offset) ((int8_t *)arena + (offset))
"""
    parts = [head]
    calls: list[str] = []
    for number, step in enumerate(steps):
        parts += _definitions(number, step)
        calls += _call(number, step, plan)
    parts.append(_ports("tw_inputs", "TW_INPUT_COUNT", graph.inputs, plan))
    parts.append(_ports("tw_outputs", "TW_OUTPUT_COUNT", graph.outputs, plan))
    parts.append(f"const char tw_info[TW_INFO_BYTES] =\n    {_string(info)};\n")
    parts.append("void tw_run(void) {\n" + "\n".join(f"    {call}" for call in calls) + "\n}\n")
    return "\n".join(parts)


def _describe(kind: str, index: int, tensor: Tensor) -> str:
    text = f"{kind} {index}: {_comment(str(tensor))}"
    if tensor.quantization is not None:
        text += f", real = {tensor.quantization.scale:.9g} * (q - {tensor.quantization.zero_point})"
    return text


def _comment(text: str) -> str:
    """``text`` made harmless inside a C comment."""
    return (
        "".join(c if c.isprintable() and c.isascii() else "?" for c in text).replace("*/", "* /").replace("/*", "/ *")
    )


def _string(text: str) -> str:
    return json.dumps(text).replace("??", "?\\?")


def _definitions(number: int, step: Step | Alias) -> Iterator[str]:
    operator = step.operator
    sources = (step.source,) if isinstance(step, Alias) else step.inputs
    lines = [f"/* {number}: {operator.name} (operator {operator.index})"]
    lines += [f" *    from {_comment(str(tensor))}" for tensor in sources]
    lines += [f" *    to   {_comment(str(step.output))}"]
    if isinstance(step, Alias):
        yield "\n".join([*lines, " *    the same bytes in another shape: no code */"]) + "\n"
        return
    if step.note:
        lines.append(f" *    portable kernel: {step.note}")
    yield "\n".join(lines) + " */"
    for position, tensor in enumerate(step.inputs):
        if tensor.data is not None:
            yield _array(_data_name(number, position), "int8_t", tensor.data, "constant input")
    members = {**step.fields, **{f"argument{i}": value for i, value in enumerate(step.arguments)}}
    for name, value in members.items():
        if isinstance(value, Constant):
            yield _array(_constant_name(number, name), value.c_type, value.values, value.note)
    if step.struct is not None:
        body = "".join(f"    .{name} = {_value(number, name, value)},\n" for name, value in step.fields.items())
        yield f"static const {step.struct} step{number} = {{\n{body}}};\n"


def _data_name(number: int, position: int) -> str:
    return f"step{number}_input{position}"


def _constant_name(number: int, name: str) -> str:
    return f"step{number}_{name}"


def _value(number: int, name: str, value: Field) -> str:
    if isinstance(value, Constant):
        return _constant_name(number, name)
    if isinstance(value, tuple):
        return "{" + ", ".join(str(item) for item in value) + "}"
    # A float in hexadecimal is exact; -2^31 has no literal in C.
    return f"{value.hex()}f" if isinstance(value, float) else _integer(value)


def _integer(value: int) -> str:
    return "INT32_MIN" if value == -(1 << 31) else str(value)


def _array(name: str, c_type: str, values: NDArray[Any], note: str) -> str:
    rows = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(1, -1)
    if c_type in _STRUCTS:
        lines = ["{" + ", ".join(_integer(int(v)) for v in row) + "}," for row in rows]
        count = len(rows)
    else:
        lines = [
            ", ".join(_integer(int(v)) for v in row[at : at + _VALUES_A_LINE]) + ","
            for row in rows
            for at in range(0, len(row), _VALUES_A_LINE)
        ]
        count = rows.size
    align = "" if c_type in _STRUCTS else "__attribute__((aligned(4))) "
    comment = f" /* {note} */" if note else ""
    body = "\n".join(f"    {line}" for line in lines)
    return f"static const {c_type} {align}{name}[{count}] = {{{comment}\n{body}\n}};"


def _call(number: int, step: Step | Alias, plan: MemoryPlan) -> Iterator[str]:
    if isinstance(step, Alias):
        return
    arguments = [f"&step{number}"] if step.struct is not None else []
    arguments += [_value(number, f"argument{i}", value) for i, value in enumerate(step.arguments)]
    for position, tensor in enumerate(step.inputs):
        place = _data_name(number, position) if tensor.data is not None else _place(tensor, plan)
        arguments.append(place)
    arguments.append(_place(step.output, plan))
    if step.scratch_bytes:
        arguments.append(f"(int16_t *)AT({plan.scratch[number]})")
    yield f"{step.kernel}({', '.join(arguments)}); /* {step.operator.name} */"


def _place(tensor: Tensor, plan: MemoryPlan) -> str:
    cast = "(float *)" if tensor.dtype == "float32" else ""
    return f"{cast}AT({plan.storage[tensor.index]})"


def _ports(name: str, count: str, tensors: Sequence[Tensor], plan: MemoryPlan) -> str:
    rows = "".join(
        f"    {{(int8_t *)arena + {plan.storage[tensor.index]}, {tensor.bytes}}}, /* {_comment(str(tensor))} */\n"
        for tensor in tensors
    )
    return f"const tw_port {name}[{count}] = {{\n{rows}}};\n"


def model_info(graph: Graph, version: str, plan: MemoryPlan, target: Mapping[str, object]) -> str:
    """The INFO answer: what the model is, as compact JSON."""

    def ports(tensors: Sequence[Tensor]) -> list[dict[str, object]]:
        return [
            {"name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype}
            | (
                {"scale": tensor.quantization.scale, "zero_point": tensor.quantization.zero_point}
                if tensor.quantization is not None
                else {}
            )
            for tensor in tensors
        ]

    info = {
        "model": graph.name, "version": version, "crc32": f"{graph.crc32:08x}",
        "inputs": ports(graph.inputs), "outputs": ports(graph.outputs), "arena_bytes": plan.arena_bytes, **target,
    }  # fmt: skip
    return json.dumps(info, separators=(",", ":"), ensure_ascii=True)
