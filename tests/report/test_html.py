"""The page: self-contained, drawn by a real browser, and deaf to hostile data."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from tests.components import need
from tests.report.browser import screenshot, visit
from tests.report.traces import device_trace, live_trace

from tierwise.report.html import Report, render_html, write_html
from tierwise.report.markup import Markup, element
from tierwise.report.summary import TierFacts, summarise

if TYPE_CHECKING:
    from pathlib import Path

    from tierwise.core.trace import TraceRow

HOSTILE = """</script><script>document.title='pwned'</script><img src="http://evil.example/" onerror='x()'>&"'`${x}"""
FACTS = {"edge": TierFacts("onnx", "model.onnx"), "cloud": TierFacts("torch", "model.pt2")} | {
    "device": TierFacts("firmware", "model-int8.tflite", "modelled", "a-board", 1584.0)
}


def page_of(rows: list[TraceRow], *, note: str = "fine") -> Report:
    return Report(
        summary=summarise(rows, facts=FACTS),
        rows=rows,
        model_facts={"model": "anomaly-detector 1.0.0", "note": note},
        environment={"processor": "a machine", "tierwise": "1"},
        command="tierwise demo --seed 1",
        created="2026-01-01 12:00 UTC",
    )


@pytest.fixture
def page(tmp_path: Path) -> Path:
    write_html(page_of([*live_trace(lost=5), *device_trace()]), tmp_path / "report.html")
    return tmp_path / "report.html"


def hostile_page(path: Path) -> Path:
    rows = [
        msgspec.structs.replace(
            row,
            request_id=HOSTILE + row.request_id,
            device_id=HOSTILE,
            model=HOSTILE,
            label=f"{HOSTILE}{row.label}",
            truth=HOSTILE,
            tier=row.tier if row.tier == "edge" else HOSTILE,
            outcome="answered" if row.outcome == "answered" else HOSTILE,
        )
        for row in live_trace(requests=30, lost=2)
    ]
    write_html(msgspec.structs.replace(page_of(rows, note=HOSTILE), command=HOSTILE, created=HOSTILE), path)
    return path


def plots_of(text: str) -> list[dict[str, Any]]:
    """What the page tells its script to draw."""
    data = re.search(r'<script type="application/json" id="plot-data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    plots: list[dict[str, Any]] = msgspec.json.decode(data[1])
    return plots


class Elements(HTMLParser):
    """Counts tags and gathers attributes as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_refers_to_nothing_outside_itself() -> None:
    elements = Elements(render_html(page_of(live_trace())))
    links = [attrs.get(name) for _, attrs in elements.tags for name in ("src", "href", "action", "data", "srcset")]
    assert [link for link in links if link is not None] == ["data:,"]
    assert not [tag for tag, _ in elements.tags if tag in {"iframe", "object", "embed", "link"} and tag != "link"]
    assert not [attrs for _, attrs in elements.tags if "style" in attrs or any(name.startswith("on") for name in attrs)]


def test_the_policy_names_exactly_the_script_and_the_style_sheet() -> None:
    text = render_html(page_of(live_trace()))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy[1]
    assert policy[1].count("sha256-") == 2


def test_hostile_data_stays_text(tmp_path: Path) -> None:
    tags = [tag for tag, _ in Elements(hostile_page(tmp_path / "hostile.html").read_text()).tags]
    harmless = [tag for tag, _ in Elements(render_html(page_of(live_trace(requests=30, lost=2)))).tags]
    assert tags.count("script") == harmless.count("script") == 2
    assert "img" not in tags


def test_markup_escapes_text_and_attributes_and_refuses_invented_names() -> None:
    assert element("p", "<b>&", title='"x"') == '<p title="&quot;x&quot;">&lt;b&gt;&amp;</p>'
    assert element("p", element("b", "x")) == "<p><b>x</b></p>"
    assert isinstance(element("br"), Markup)
    with pytest.raises(ValueError, match="not a name"):
        element("p onclick=x")


def test_the_same_trace_gives_the_same_page() -> None:
    assert render_html(page_of(live_trace())) == render_html(page_of(live_trace()))


def test_a_long_trace_gives_a_small_page() -> None:
    short, long = (render_html(page_of(live_trace(requests=number))) for number in (2000, 10_000))
    assert len(long) < 1.5 * len(short)
    assert len(long) < 500_000


def test_a_page_without_a_single_answer_still_opens(tmp_path: Path) -> None:
    rows = [
        msgspec.structs.replace(
            row, outcome="timeout", answered_us=None, label=None, inference_us=None, configured_delay_us=None
        )
        for row in live_trace(requests=5)
    ]
    write_html(page_of(rows), tmp_path / "empty.html")
    seen = visit(tmp_path / "empty.html")
    assert seen.console == []
    assert "No tier answered a single request." in seen.dom


def test_the_browser_would_tell_of_a_request(tmp_path: Path) -> None:
    (tmp_path / "chatty.html").write_text(
        '<img src="http://picture.example/x.png"><script>console.error("oh")</script>'
    )
    seen = visit(tmp_path / "chatty.html")
    assert seen.requests == ["http://picture.example/x.png"]
    assert any("oh" in line for line in seen.console)


def test_a_browser_draws_every_plot_without_a_word_and_without_a_network(page: Path) -> None:
    seen = visit(page)
    assert seen.console == []
    assert seen.requests == []
    assert 'data-plots="3"' in seen.dom
    assert seen.dom.count("<canvas") == 3


def test_a_browser_runs_nothing_of_hostile_data(tmp_path: Path) -> None:
    seen = visit(hostile_page(tmp_path / "hostile.html"))
    assert 'data-plots="3"' in seen.dom
    assert "<title>pwned" not in seen.dom
    assert "<img" not in seen.dom.replace("&lt;img", "").split("<script", maxsplit=1)[0]
    assert seen.console == []
    assert seen.requests == []


def test_what_is_modelled_is_marked_wherever_it_is_shown(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    device, edge = re.findall(r"<article.*?</article>", text)[:2]
    assert "modelled for a-board" in device
    assert "over-modelled" in device
    assert "modelled" not in edge
    assert text.count('class="over-modelled"') == 4, "card, bar, its key, legend of the plots"
    assert "device, modelled" in text
    assert "<small>firmware, times modelled</small>" in text
    assert "Modelled times are not in it: device." in text
    plots = {plot["id"]: plot["curves"] for plot in plots_of(text)}
    dashed = [[curve["name"] for curve in plots[name] if curve.get("dashed")] for name in ("histogram", "cumulative")]
    assert dashed == [["device"], ["device"]]
    assert [curve["name"] for curve in plots["timeline"]] == ["edge", "cloud"]


def test_a_device_without_times_is_in_no_plot(tmp_path: Path) -> None:
    write_html(page_of([*live_trace(), *device_trace(counted=False)]), tmp_path / "report.html")
    seen = visit(tmp_path / "report.html")
    assert seen.console == []
    assert 'data-plots="3"' in seen.dom
    assert "times not modelled" in seen.dom
    assert "over-modelled" not in seen.dom.split("<main>")[1].split("<script")[0]


def test_a_device_alone_is_drawn_over_time_too(tmp_path: Path) -> None:
    write_html(page_of(device_trace()), tmp_path / "report.html")
    seen = visit(tmp_path / "report.html")
    assert seen.console == []
    assert 'data-plots="3"' in seen.dom
    assert "Modelled times are not in it" not in seen.dom


@pytest.mark.parametrize("dark", [False, True])
def test_the_curves_are_seen_in_the_colours_of_their_tiers(page: Path, tmp_path: Path, *, dark: bool) -> None:
    need(package="matplotlib")
    from matplotlib.image import imread  # noqa: PLC0415 - an optional extra

    screenshot(page, tmp_path / "seen.png", dark=dark)
    pixels = (imread(tmp_path / "seen.png")[:, :, :3] * 255).round().astype(int)
    ground = pixels[5, 5]
    assert (ground.max() < 40) == dark
    colours = (
        ((0x4F, 0xD1, 0xA1), (0x6D, 0xB3, 0xFF), (0xFF, 0x9D, 0x66))
        if dark
        else ((0x04, 0x78, 0x57), (0x0B, 0x62, 0xC4), (0xC2, 0x41, 0x0C))
    )
    middle = pixels[1000:1900]  # the plots: no text in these colours there
    for colour in colours:
        assert np.count_nonzero((middle == colour).all(axis=2)) > 300, colour


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_sticks_out_of_the_window(page: Path, tmp_path: Path, width: int) -> None:
    # Windows narrower than 500 pixels are widened by the browser; a frame is not.
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe src="{page.name}" style="width:{width}px;height:900px;border:0"></iframe><script>'
        "addEventListener('load', () => {"
        "const root = document.querySelector('iframe').contentDocument.documentElement;"
        "document.title = root.scrollWidth + '/' + root.clientWidth; })</script>"
    )
    seen = visit(frame, "--allow-file-access-from-files")
    title = re.search(r"<title>(\d+)/(\d+)</title>", seen.dom)
    assert title is not None, seen.dom[:500]
    assert int(title[1]) <= int(title[2]) == width
