"""Writes the trace: the columns of ``core.trace`` as CSV, or as Parquet with the extra ``sim``."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tierwise.core.errors import DependencyError
from tierwise.core.trace import TRACE_COLUMNS
from tierwise.scenario.checks import tiers_of
from tierwise.sim.kernel.tables import (
    OUTCOMES,
    R_ANSWERED,
    R_ARRIVED,
    R_CREATED,
    R_DEVICE,
    R_DOWN,
    R_ENERGY,
    R_FINISHED,
    R_K,
    R_OUTCOME,
    R_SENT,
    R_STARTED,
    R_TIER,
    R_UP,
    TIERS,
)
from tierwise.sim.programs import TIER_CODES
from tierwise.sim.truth import samples_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tierwise.sim.plan import Plan
    from tierwise.sim.rows import Rows

_INSTANTS = {
    "created_us": R_CREATED,
    "sent_us": R_SENT,
    "arrived_us": R_ARRIVED,
    "started_us": R_STARTED,
    "finished_us": R_FINISHED,
    "answered_us": R_ANSWERED,
}
_TIERS = ("", *TIERS)


class _Answers:
    """Prediction, label and truth of each request, as text; none where no model was run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tables: dict[tuple[str, str], NDArray[np.object_]] = {}
        for key, answers in plan.answers.items():
            predictions = [
                msgspec.json.encode(row[0] if len(row) == 1 else row).decode() for row in answers.predictions.tolist()
            ]
            columns = [predictions, map(str, answers.labels.tolist()), map(str, answers.truth.tolist())]
            self.tables[key] = np.array(list(zip(*columns, strict=True)), object)

    def of(self, rows: Rows) -> NDArray[np.object_]:
        """(prediction, label, truth) of each row."""
        text = np.full((rows.size, 3), None, object)
        if not self.tables:
            return text
        tier = rows[R_TIER]
        group = self.plan.group_of[rows[R_DEVICE]]
        for name, row in self.plan.groups.items():
            model = self.plan.scenario.model_of(name)
            for code, tier_name in enumerate(_TIERS[1:]):
                table = self.tables.get((model, tier_name))
                here = np.flatnonzero((group == row) & (tier == code))
                if table is not None and len(here):
                    text[here] = table[samples_of(self.plan, rows.take(here), len(table))]
        return text


class _FirstTiers:
    """The tier of each request: that which answered, else that which its placement asks first."""

    def __init__(self, plan: Plan) -> None:
        first = {row: TIER_CODES[tiers_of(plan.scenario.rule(name))[0]] for name, row in plan.groups.items()}
        self._by_device = np.array([first[row] for row in plan.group_of.tolist()], np.int64)

    def of(self, rows: Rows) -> NDArray[np.int64]:
        """Tier codes, none negative."""
        tier = rows[R_TIER]
        return np.where(tier >= 0, tier, self._by_device[rows[R_DEVICE]])


class CsvTrace:
    """A sink that writes CSV."""

    def __init__(self, plan: Plan, path: Path) -> None:
        self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(TRACE_COLUMNS)
        self._plan = plan
        self._names = np.array(plan.names, object)
        self._answers = _Answers(plan)
        self._tiers = _FirstTiers(plan)
        models = {row: plan.scenario.model_of(name) for name, row in plan.groups.items()}
        self._models = [models[row] for row in plan.group_of.tolist()]

    def take(self, rows: Rows) -> None:
        """See ``Sink``."""
        device = rows[R_DEVICE]
        names = self._names[device]
        columns: dict[str, Any] = {
            "request_id": [f"{name}/{k}" for name, k in zip(names, rows[R_K].tolist(), strict=True)],
            "device_id": names,
            "model": [self._models[index] for index in device.tolist()],
            "tier": [_TIERS[tier + 1] for tier in self._tiers.of(rows).tolist()],
            "bytes_up": rows[R_UP].tolist(),
            "bytes_down": rows[R_DOWN].tolist(),
            "energy_device_j": [energy * 1e-9 for energy in rows[R_ENERGY].tolist()],
            "outcome": [OUTCOMES[outcome] for outcome in rows[R_OUTCOME].tolist()],
        }
        for name, index in _INSTANTS.items():
            columns[name] = [None if at < 0 else at // 1000 for at in rows[index].tolist()]
        text = self._answers.of(rows)
        columns["prediction"], columns["label"], columns["truth"] = text.T
        empty = [None] * rows.size
        self._writer.writerows(zip(*(columns.get(name, empty) for name in TRACE_COLUMNS), strict=True))

    def close(self) -> None:
        """Completes the file."""
        self._file.close()


class ParquetTrace:
    """A sink that writes Parquet."""

    def __init__(self, plan: Plan, path: Path) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415 -- optional
            import pyarrow.parquet as pq  # noqa: PLC0415
        except ImportError as error:
            raise DependencyError("a Parquet trace needs pyarrow: pip install 'tierwise[sim]'") from error
        self._pa = pa
        self._plan = plan
        self._answers = _Answers(plan)
        self._names = pa.array(plan.names)
        self._asked = _FirstTiers(plan)
        self._outcomes = pa.array(OUTCOMES)
        self._tiers = pa.array(_TIERS)
        self._model_names = pa.array(list(plan.scenario.models))
        models = list(plan.scenario.models)
        by_group = {row: models.index(plan.scenario.model_of(name)) for name, row in plan.groups.items()}
        self._models = np.array([by_group[row] for row in plan.group_of.tolist()], np.int32)
        word = pa.dictionary(pa.int32(), pa.string())
        kinds = {
            "request_id": pa.string(),
            "device_id": word,
            "model": word,
            "tier": word,
            **dict.fromkeys(_INSTANTS, pa.int64()),
            "bytes_up": pa.int64(),
            "bytes_down": pa.int64(),
            "energy_device_j": pa.float64(),
            "prediction": pa.string(),
            "label": pa.string(),
            "truth": pa.string(),
            "inference_us": pa.float64(),
            "configured_delay_us": pa.int64(),
            "outcome": word,
        }
        self._schema = pa.schema([(name, kinds[name]) for name in TRACE_COLUMNS])
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", compression_level=1)

    def take(self, rows: Rows) -> None:
        """See ``Sink``."""
        import pyarrow.compute as pc  # noqa: PLC0415 -- optional

        pa = self._pa
        device = rows[R_DEVICE].astype(np.int32)
        names = pa.DictionaryArray.from_arrays(device, self._names)
        k = pa.array(rows[R_K]).cast(pa.string())
        columns = {
            "request_id": pc.binary_join_element_wise(names.dictionary_decode(), k, "/"),
            "device_id": names,
            "model": pa.DictionaryArray.from_arrays(self._models[device], self._model_names),
            "tier": pa.DictionaryArray.from_arrays((self._asked.of(rows) + 1).astype(np.int32), self._tiers),
            "bytes_up": pa.array(rows[R_UP]),
            "bytes_down": pa.array(rows[R_DOWN]),
            "energy_device_j": pa.array(rows[R_ENERGY] * 1e-9),
            "outcome": pa.DictionaryArray.from_arrays(rows[R_OUTCOME].astype(np.int32), self._outcomes),
        }
        for name, index in _INSTANTS.items():
            at = rows[index]
            columns[name] = pa.array(at // 1000, mask=at < 0)
        text = self._answers.of(rows) if self._plan.answers else None
        for position, name in enumerate(("prediction", "label", "truth")):
            nothing = pa.nulls(rows.size, pa.string())
            columns[name] = nothing if text is None else pa.array(text[:, position], pa.string())
        arrays = [columns.get(f.name, pa.nulls(rows.size, f.type)) for f in self._schema]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """Completes the file."""
        self._writer.close()
