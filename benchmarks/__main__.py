"""``python -m benchmarks [NAME...]``: runs all or the named ones, prints a table; exit 1 where a target is missed."""

from __future__ import annotations

import importlib
import sys

from benchmarks.table import Row, show

BENCHMARKS = ("startup", "dataplane", "mqtt_worker", "http_predict", "scale_out", "device")


def main(names: list[str]) -> int:
    """Runs the benchmarks and shows their rows."""
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for name in names or BENCHMARKS:
        rows += importlib.import_module(f"benchmarks.{name}").measure()
    show(rows)
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
