"""Foreign clients of a service: paho for MQTT, the standard library for HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

if TYPE_CHECKING:
    from collections.abc import Iterator

FEATURES = [0.5] * 32
TOPICS = [("ml/inference/result/+", 1), ("ml/inference/error/+", 1), ("tierwise/+/status", 1)]


def get(port: int, path: str, *, body: dict[str, Any] | None = None, accept: str = "*/*") -> tuple[int, dict[str, Any]]:
    """Status and JSON of one request; (0, {}) where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        headers = {"Accept": accept} | ({"Content-Type": "application/json"} if body else {})
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException):
        return 0, {}
    finally:
        connection.close()
    return answer.status, json.loads(content)


class Sensor:
    """Publishes requests at QoS 1 and collects what comes back, by device."""

    def __init__(self, client: paho.Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self.answers: Counter[str] = Counter()
        self.last: dict[str, dict[str, Any]] = {}
        self.statuses: dict[str, str] = {}
        self.subscribed = 0
        """How often a broker has confirmed the subscriptions."""
        self._asked: dict[int, str] = {}
        self._acknowledged: dict[int, str] = {}

    def ask(self, device_id: str, *, topic: str = "ml/inference/request", request_id: str | None = None) -> None:
        """One request; its answer is counted under ``request_id`` or the device."""
        name = request_id or device_id
        request = {"device_id": device_id, "timestamp_us": 1, "features": FEATURES, "request_id": name}
        published = self._client.publish(topic, json.dumps(request), qos=1)
        self._asked[published.mid] = name

    def acknowledged(self) -> dict[str, str]:
        """Requests that the broker has acknowledged, with what it said (``Success``, ``No matching subscribers``)."""
        return {self._asked[mid]: said for mid, said in self._acknowledged.copy().items() if mid in self._asked}

    def online(self) -> set[str]:
        """Services that say so."""
        with self._lock:
            return {topic for topic, status in self.statuses.items() if status == "online"}

    def on_acknowledged(self, mid: int, said: str) -> None:
        """Called by paho, which holds a lock meanwhile: no other may be waited for here."""
        self._acknowledged[mid] = said

    def on_message(self, message: paho.MQTTMessage) -> None:
        """Takes results and errors apart from statuses."""
        with self._lock:
            if message.topic.startswith("tierwise/"):
                self.statuses[message.topic] = message.payload.decode()
                return
            answer = json.loads(message.payload)
            name = answer.get("request_id") or answer["device_id"]
            self.answers[name] += 1
            self.last[name] = answer


@contextlib.contextmanager
def sensor(port: int, *, username: str | None = None, password: str | None = None) -> Iterator[Sensor]:
    """A connected client that has subscribed to results, errors and statuses, and does so after every reconnect."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.username_pw_set(username, password)
    client.max_inflight_messages_set(1000)
    client.reconnect_delay_set(1, 1)
    seen = Sensor(client)
    ready = threading.Event()

    def subscribe(client: paho.Client, *_: object) -> None:
        client.subscribe(TOPICS)

    def confirmed(*_: object) -> None:
        seen.subscribed += 1
        ready.set()

    client.on_message = lambda _client, _data, message: seen.on_message(message)
    client.on_publish = lambda _client, _data, mid, code, _properties: seen.on_acknowledged(mid, str(code))
    client.on_connect = subscribe
    client.on_subscribe = confirmed
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        assert ready.wait(10), "the broker did not confirm the subscription"
        yield seen
    finally:
        client.disconnect()
        client.loop_stop()
