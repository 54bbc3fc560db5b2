"""``python -m benchmarks.device.calibrate``: fits the board profiles to MLPerf Tiny v1.2 and writes their errors down.

Instructions come from firmware of the reference architectures (they do not depend on the weights), latency and energy
from the published results. One factor a board, the geometric mean over four models, stands for everything that an
instruction count does not know: pipeline, flash wait states, caches, and the vendor's other kernels.
"""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from tests.device.reference_models import MODELS

import tierwise.device
from benchmarks.example import scratch
from tierwise.device.build import build
from tierwise.device.emulator import Emulator

PROFILES = Path(tierwise.device.__file__).parent / "profiles"

PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {
    # board: model: milliseconds, microjoules
    "nucleo-l4r5zi": {
        "anomaly": (5.26, 203), "keyword": (43.2, 1820), "wake-vision": (88.9, 3895), "image": (165, 6919),
    },
    "nucleo-u575zi-q": {
        "anomaly": (3.43, 82), "keyword": (29.1, 656), "wake-vision": (59.3, 1355), "image": (111, 2579),
    },
    "nucleo-h7a3zi-q": {
        "anomaly": (1.23, 166), "keyword": (11.3, 1376), "wake-vision": (23.8, 2965), "image": (40.8, 5090),
    },
}  # fmt: skip


def instructions() -> dict[str, int]:
    """Instructions of one inference of each reference architecture."""
    counts = {}
    with scratch() as folder:
        for name in PUBLISHED["nucleo-l4r5zi"]:
            model = Path(folder) / f"{name}.tflite"
            model.write_bytes(MODELS[name]())
            report = build(model, Path(folder) / name)
            size = report.signature.inputs[0].sample_size or 1
            counts[name] = asyncio.run(_count(Path(folder) / name, bytes(size)))
    return counts


async def _count(folder: Path, sample: bytes) -> int:
    async with Emulator(folder) as device:
        return (await device.infer(sample)).instructions or 0


def fit(profile: dict[str, Any], published: dict[str, tuple[float, float]], counts: dict[str, int]) -> None:
    """Sets the two fitted figures, the points and the error of ``profile``."""
    clock_hz = profile["clock_hz"]
    profile["cycles_per_instruction"] = round(
        _mean([ms * 1e-3 * clock_hz / counts[m] for m, (ms, _) in published.items()]), 3
    )
    profile["active_mw"] = round(_mean([uj / ms for ms, uj in published.values()]), 1)
    points, off = [], []
    for model, (ms, uj) in published.items():
        modelled_ms = counts[model] * profile["cycles_per_instruction"] / clock_hz * 1e3
        modelled_uj = modelled_ms * profile["active_mw"]
        points.append({
            "model": model, "instructions": counts[model], "published_ms": ms, "published_uj": uj,
            "modelled_ms": float(f"{modelled_ms:.4g}"), "modelled_uj": float(f"{modelled_uj:.4g}"),
        })  # fmt: skip
        off.append((model, round((modelled_ms / ms - 1) * 100), round((modelled_uj / uj - 1) * 100)))
    profile["calibration"] = points
    profile["calibration_error"] = (
        "One factor stands for pipeline, flash wait states and caches, and the published runs used the vendor's "
        f"kernels. Modelled latency is off by {', '.join(f'{t:+d} % ({m})' for m, t, _ in off)}; "
        f"energy by {', '.join(f'{e:+d} % ({m})' for m, _, e in off)}."
    )


def _mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def main() -> None:
    """Rewrites all profiles."""
    counts = instructions()
    yaml = YAML()
    yaml.width = 110
    for name, published in PUBLISHED.items():
        path = PROFILES / f"{name}.yaml"
        profile = yaml.load(path.read_text(encoding="utf-8"))
        fit(profile, published, counts)
        with path.open("w", encoding="utf-8") as file:
            yaml.dump(profile, file)
        print(name, profile["cycles_per_instruction"], "cycles an instruction;", profile["calibration_error"])


if __name__ == "__main__":
    main()
