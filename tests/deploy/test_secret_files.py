"""Passwords are made once, whole, and for their owner."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from tierwise.deploy.secret_files import keep_or_make

if TYPE_CHECKING:
    from pathlib import Path


def test_a_password_is_made_once_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "secrets" / "password"
    keep_or_make(file, form="PASSWORD={password}\n")
    first = file.read_text()
    keep_or_make(file, form="PASSWORD={password}\n")
    assert file.read_text() == first
    assert len(first.removeprefix("PASSWORD=").strip()) == 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in file.parent.iterdir()] == ["password"]


def test_mode_does_not_depend_on_the_mask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        keep_or_make(tmp_path / "mounted", mode=0o444)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "mounted").stat().st_mode) == 0o444


def test_an_interrupted_writing_leaves_no_password_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "password"

    def interrupted(*_: object) -> None:
        assert not file.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fchmod", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keep_or_make(file)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refused)
    file = tmp_path / "password"
    keep_or_make(file)
    first = file.read_text()
    keep_or_make(file)
    assert file.read_text() == first
    assert len(first.strip()) == 32
    assert list(tmp_path.iterdir()) == [file]


def test_who_renders_at_the_same_time_gets_the_same_password(tmp_path: Path) -> None:
    file = tmp_path / "password"
    seen: list[str] = []
    together = threading.Barrier(8)

    def render() -> None:
        together.wait()
        keep_or_make(file)
        seen.append(file.read_text())

    threads = [threading.Thread(target=render) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["password"]
