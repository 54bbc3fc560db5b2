"""The table in the terminal: complete, narrow enough, and honest."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console
from tests.report.traces import device_trace, live_trace

from tierwise.report import words
from tierwise.report.summary import TierFacts, summarise
from tierwise.report.tables import METRICS, heading, metrics, summary_view

FACTS = {"edge": TierFacts("onnx", "model.onnx"), "cloud": TierFacts("torch", "model.pt2")}
DEVICE = TierFacts("firmware", "model-int8.tflite", "modelled", board="a-board", instructions=1584.0)


def shown(width: int, *, lost: int = 0, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    summary = summarise(live_trace(lost=lost), facts=FACTS)
    Console(file=file, width=width, legacy_windows=False).print(summary_view(summary))
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [80, 120])
def test_fits_the_width_with_every_figure_on_a_line_of_its_own(width: int) -> None:
    text = shown(width)
    lines = [line.strip() for line in text.splitlines()]

    assert max(map(len, text.splitlines())) <= width
    for title, _ in METRICS:
        assert any(line.startswith(title.strip()) for line in lines), title
    assert "\x1b" not in text, "a pipe gets no control characters"


def test_a_pipe_without_unicode_still_gets_the_table() -> None:
    text = shown(80, encoding="ascii")
    assert "end to end p50, ms" in text


def test_says_what_was_measured_and_what_was_configured() -> None:
    text = " ".join(shown(120).split())
    assert "All of it was measured with onnx, model.onnx: inference, queue and messaging; no delay was added." in text
    assert "Inference, queue and messaging were measured with torch, model.pt2. 100.0 ms, 99.1 % of the time," in text
    assert "is a configured delay that stands for a network: it was not measured." in text


def test_errors_are_shown_with_their_reason() -> None:
    text = shown(80, lost=7)
    assert "7 (timeout 7)" in text
    assert "7 of 200 requests failed" in " ".join(text.split())


def test_a_modelled_tier_says_so_in_the_heading_and_in_words() -> None:
    summary = summarise(device_trace(), facts={"device": DEVICE})
    device = summary.tiers["device"]
    assert heading("device", device) == "device\nfirmware\ntimes modelled"
    told = words.sentence(device)
    assert told.startswith("Real answers with firmware, model-int8.tflite. Times and energy are modelled for a-board")
    assert "1,584 counted instructions" in told
    assert "not measured" in told
    assert "nothing is sent" in told
    assert "measured with" not in told


def test_a_device_whose_time_nobody_models_has_answers_and_no_times() -> None:
    rows = device_trace(counted=False)
    facts = {"device": msgspec.structs.replace(DEVICE, runtime="host build", instructions=None)}
    summary = summarise([*live_trace(), *rows], facts=facts)
    device = summary.tiers["device"]
    assert device.accuracy is not None
    assert device.end_to_end_ms.p50 is None
    assert heading("device", device) == "device\nhost build\ntimes not modelled"
    assert "gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm" in words.sentence(device)
    assert "device takes is neither measured nor modelled" in words.lede(summary)
    assert "energy" not in " ".join(title for title, _ in metrics(summary))


def test_measured_and_modelled_times_are_in_sentences_of_their_own() -> None:
    told = words.lede(summarise([*live_trace(), *device_trace()], facts=FACTS | {"device": DEVICE}))
    measured, _, rest = told.partition(". ")
    assert measured.startswith("Half of the answers came within")
    assert "device" not in measured
    assert "The device needs 0.015 ms and 0.639 µJ, modelled for a-board, not measured." in rest


def test_three_tiers_fit_eighty_columns() -> None:
    file = io.StringIO()
    summary = summarise([*live_trace(), *device_trace()], facts=FACTS | {"device": DEVICE})
    Console(file=file, width=80).print(summary_view(summary))
    text = file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "times modelled" in text
    p50 = next(line for line in text.splitlines() if "end to end" in line)
    assert len(p50.split()) == len(["end", "to", "end", "p50,", "ms", "device", "edge", "cloud"])
    assert next(line.split() for line in text.splitlines() if "energy an" in line)[-4:] == ["0.639", "µJ", "-", "-"]
    assert next(line.split() for line in text.splitlines() if "instructions, c" in line)[-3:] == ["1,584", "-", "-"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.000639, "0.639 µJ"), (0.0325, "32.5 µJ"), (1.82, "1.82 mJ"), (None, "-")]
)
def test_energy_has_a_unit_that_suits_it(value: float | None, text: str) -> None:
    assert words.energy(value) == text


def test_a_share_is_called_all_or_nothing_only_when_it_is() -> None:
    assert words.percent(1.0) == "100 %"
    assert words.percent(0.9999) == "> 99.9 %"
    assert words.percent(0.0) == "0 %"
    assert words.percent(0.0001) == "< 0.1 %"
    assert words.percent(None) == "-"


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.012"), (1.234, "1.23"), (45.67, "45.7"), (101.23, "101.2"), (None, "-")]
)
def test_milliseconds_are_finer_where_they_are_few(value: float | None, text: str) -> None:
    assert words.ms(value) == text


def test_disagreement_is_counted() -> None:
    rows = live_trace(requests=4)
    assert "on all 4 samples" in words.agreement(summarise(rows))
    rows[0] = msgspec.structs.replace(rows[0], label="other")
    assert words.agreement(summarise(rows)) == (
        "Edge and cloud gave the same label on 75.0 % of 4 samples and differ on 1."
    )


def test_a_queue_that_was_not_told_is_said_to_be_in_the_messaging() -> None:
    rows = [msgspec.structs.replace(row, arrived_us=None, started_us=None, finished_us=None) for row in live_trace()]
    for tier in summarise(rows).tiers.values():
        assert "messaging (with the queue, which the tier did not tell apart)" in words.sentence(tier)
