"""The reference pages in the repository are those that the code gives now."""

from __future__ import annotations

import pytest
from docs.generate import FOLDER, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_page_is_current(name: str) -> None:
    committed = (FOLDER / name).read_text(encoding="utf-8")
    assert committed == PAGES[name](), f"docs/{name} is out of date: run `make docs`"
