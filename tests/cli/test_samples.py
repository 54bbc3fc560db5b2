"""Samples from files: what is a header, and what is a mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tierwise.cli.samples import read_samples
from tierwise.core.errors import InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_row_without_any_number_is_a_header(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text(",left,right\n1,2,3\n4,5,6\n")
    samples = read_samples(str(file))
    assert isinstance(samples, np.ndarray)
    assert samples.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("first", ["1,2.O,3", "1,,3", "a,b,3"])
def test_a_typo_in_the_first_row_is_told_and_no_sample_is_dropped(tmp_path: Path, first: str) -> None:
    file = tmp_path / "s.csv"
    file.write_text(f"{first}\n4,5,6\n")
    with pytest.raises(InvalidInputError, match=r"s\.csv: row 1: could not convert"):
        read_samples(str(file))
