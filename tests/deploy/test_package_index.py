"""The index may be away for a moment; a package that does not exist is an error at once."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.deploy.package_index import pip

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = b'<a href="/none-1.0-py3-none-any.whl">none-1.0-py3-none-any.whl</a>'


@contextmanager
def index(statuses: list[int]) -> Iterator[str]:
    """An index of one package that answers with these statuses one after the other, then with the last for ever."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(PAGE)))
            self.end_headers()
            self.wfile.write(PAGE)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/simple/"
        finally:
            server.shutdown()
            thread.join()


def ask(url: str, package: str, *pauses_s: float) -> str:
    """pip's answer to what versions of a package there are."""
    options = ("--isolated", "--retries", "0", "--index-url", url)
    return pip("index", "versions", package, *options, timeout_s=60, pauses_s=pauses_s)


def test_an_index_that_comes_back_is_asked_again() -> None:
    with index([503, 503, 200]) as url:
        assert "1.0" in ask(url, "none", 0.1, 0.1)


def test_an_index_that_stays_away_is_a_missing_component(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with index([503]) as url, pytest.raises(pytest.skip.Exception, match="the package index cannot be reached"):
        ask(url, "none")
    monkeypatch.setenv("CI", "1")
    with index([503]) as url, pytest.raises(pytest.fail.Exception, match="the package index cannot be reached"):
        ask(url, "none")


def test_a_package_that_is_not_there_is_an_error() -> None:
    with index([404]) as url, pytest.raises(AssertionError, match="No matching distribution found"):
        ask(url, "none")
