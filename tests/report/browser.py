"""A real browser without a window: what a page becomes in it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from tests.components import need

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-features=NetworkTimeServiceQuerying,OptimizationHints,MediaRouter",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--hide-scrollbars", "--force-device-scale-factor=1",
    "--enable-logging=stderr", "--v=0",
)  # fmt: skip
TIMEOUT_S = 120
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass(frozen=True)
class Visit:
    """``dom`` after the scripts ran, what they said on the ``console``, and the network ``requests`` for the page."""

    dom: str
    console: list[str]
    requests: list[str]


def visit(page: Path, *flags: str) -> Visit:
    """Opens a file."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "net.json"
        dom, said = _run(page, folder, "--dump-dom", f"--log-net-log={log}", *flags)
        return Visit(dom, re.findall(r"CONSOLE[:(].*", said), _requests(log))


def screenshot(page: Path, to: Path, *, width: int = 1100, height: int = 2900, dark: bool = False) -> None:
    """Writes a PNG of what is seen."""
    with tempfile.TemporaryDirectory() as folder:
        shade = ["--force-dark-mode"] if dark else []
        _run(page, folder, f"--screenshot={to}", f"--window-size={width},{height}", *shade)
    assert to.stat().st_size > 0


def _run(page: Path, folder: str, *flags: str) -> tuple[str, str]:
    need(program=(program := _browser()))
    command = [program, *FLAGS, f"--user-data-dir={folder}/profile", *flags, page.as_uri()]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as browser:
        try:
            output, errors = browser.communicate(timeout=TIMEOUT_S)
        finally:
            if browser.poll() is None:
                os.killpg(browser.pid, signal.SIGKILL)
    assert browser.returncode == 0, errors
    return output, errors


def _browser() -> str:
    """The installed browser; where none is, the name of the one to install."""
    found = [path for name in BROWSERS if (path := shutil.which(name)) and not _is_snap(Path(path))]
    return found[0] if found else BROWSERS[0]


def _is_snap(program: Path) -> bool:
    """Whether it only starts a snap, as Ubuntu's chromium-browser does: that may not read the files of tests."""
    with program.open("rb") as file:
        return program.resolve().name == "snap" or b"/snap/" in file.read(4096)


def _requests(log: Path) -> list[str]:
    """URLs that the page (not the browser for itself) asked for over the network, from the browser's own log."""
    text = log.read_text(encoding="utf-8")
    asked = [event["params"] for event in _events(text) if "url" in event.get("params", {})]
    remote = [params for params in asked if params["url"].startswith(("http:", "https:", "ws:", "wss:"))]
    return sorted({params["url"] for params in remote if params.get("initiator", "not an origin") != "not an origin"})


def _events(text: str) -> list[dict[str, Any]]:
    """Those that are complete, one a line: a browser that ends while it logs leaves the list open, or half an event."""
    head, _, lines = text.partition('"events": [')
    assert lines, f"no log of the network: {head[:200]}"
    events: list[dict[str, Any]] = []
    for line in lines.splitlines():
        with contextlib.suppress(msgspec.DecodeError):  # cut off, or what comes after the events
            events.append(msgspec.json.decode(line.rstrip(",] "), type=dict[str, Any]))
    assert events, "the log of the network is of another form"
    return events
