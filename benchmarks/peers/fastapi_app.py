"""The same model behind FastAPI, written as its documentation teaches. Run by uvicorn."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

from tierwise.runtimes.onnx import session_options

app = FastAPI()
session = onnxruntime.InferenceSession(os.environ["MODEL_PATH"], session_options(1), providers=["CPUExecutionProvider"])


class Sample(BaseModel):
    """The request's body."""

    input: list[float]


@app.post("/predict")
async def predict(sample: Sample) -> dict[str, Any]:
    """One prediction."""
    features = np.array([sample.input], np.float32)
    started = time.perf_counter()
    (probability,) = session.run(["probability"], {"features": features})
    inference_time_ms = (time.perf_counter() - started) * 1e3
    return {"prediction": float(probability[0, 0]), "inference_time_ms": inference_time_ms, "model": "anomaly-detector"}
