"""A plain paho worker with ``loop_start`` that does the same JSON and inference: ``paho_worker.py PORT MODEL QOS``."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import numpy as np
import onnxruntime
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tierwise.runtimes.onnx import session_options


def main(port: int, model: str, qos: int) -> None:
    """Answers until the process is ended."""
    session = onnxruntime.InferenceSession(model, session_options(1), providers=["CPUExecutionProvider"])

    def on_connect(client: mqtt.Client, *_: Any) -> None:
        client.subscribe("ml/inference/request", qos)

    def on_subscribe(*_: Any) -> None:
        print("ready", flush=True)

    def on_message(client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        request = json.loads(message.payload)
        features = np.array([request["features"]], np.float32)
        started = time.perf_counter()
        (probability,) = session.run(["probability"], {"features": features})
        answer = {
            "device_id": request["device_id"],
            "timestamp_us": request["timestamp_us"],
            "prediction": float(probability[0, 0]),
            "inference_time_ms": (time.perf_counter() - started) * 1e3,
        }
        client.publish(f"ml/inference/result/{request['device_id']}", json.dumps(answer), qos)

    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
    client.connect("127.0.0.1", port)
    client.loop_start()
    threading.Event().wait()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
