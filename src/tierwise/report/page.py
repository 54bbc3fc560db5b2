"""The frame of every page: one self-contained file that opens from a mail or a USB stick and loads nothing.

Everything that came from outside (labels, names, descriptions) is text to ``markup`` and JSON to the plots. The page's
policy lets only the one script and the one style sheet run whose hashes it names, so markup that slipped in
nevertheless could do nothing.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

import msgspec

from tierwise import __version__
from tierwise.report.markup import join

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tierwise.report.markup import Markup
    from tierwise.report.plots import Plot


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """What a page shows. ``subheading`` stands beside the heading, ``created`` tells when in words, where it may."""

    title: str
    eyebrow: str
    heading: str
    subheading: str
    lede: str
    body: Markup
    plots: Sequence[Plot] = ()
    created: str = ""


def render_page(page: Page) -> str:
    """The page as HTML."""
    style = _asset("uPlot.min.css") + _asset("report.css")
    script = _asset("uPlot.iife.min.js") + "\n" + _asset("report.js")
    parts = {
        "title": join(page.title),
        "eyebrow": join(page.eyebrow),
        "heading": join(page.heading),
        "subheading": join(page.subheading),
        "lede": join(page.lede),
        "body": page.body,
        "made": join(" ".join(part for part in ("Made", page.created, f"by tierwise {__version__}.") if part)),
        "version": join(__version__),
    }
    return Template(_asset("page.html")).substitute(
        parts, policy=_policy(script, style), style=style, script=script, data=_script_json(page.plots)
    )


def _script_json(value: object) -> str:
    """JSON that cannot end the script element it stands in."""
    text = msgspec.json.encode(value).decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(script: str, style: str) -> str:
    """Content security policy: this script and this style sheet, nothing else, from nowhere."""
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _asset(name: str) -> str:
    return files("tierwise.report").joinpath("assets", name).read_text(encoding="utf-8")
