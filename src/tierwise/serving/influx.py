"""The figures of a service in InfluxDB: gathered in intervals, delivered in the background, kept while it is down.

No request waits for any of it. ``POST /write?db=`` is understood by InfluxDB 1, 2 and 3; with a bucket the points go
to ``/api/v2/write``. Points are delivered in order; one that is sent twice (an answer got lost) replaces itself.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import logging
import os
import random
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING, Self
from urllib.parse import urlencode

from tierwise.core.background import in_background
from tierwise.core.clocks import monotonic_ns
from tierwise.core.errors import ConfigurationError, TransportError
from tierwise.serving.cpu import CpuFrequency
from tierwise.serving.http_post import HttpReply, post
from tierwise.serving.influx_points import IntervalPoints, machine_points
from tierwise.serving.lineprotocol import encode
from tierwise.serving.metrics import INFLUX_BUFFERED, INFLUX_DROPPED, INFLUX_FAILURES, INFLUX_WRITTEN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tierwise.serving.metrics import ServiceMetrics
    from tierwise.serving.settings import InfluxSettings

TOKEN_VARIABLE = "TIERWISE_INFLUX_TOKEN"  # noqa: S105 -- the name of the variable
BATCH_POINTS = 1000
"""Points in one write, some 200 kB before compression."""
TIMEOUT_S = 10.0
FAREWELL_S = 2.0
"""How long a stopping service tries to deliver what is left."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0

_TOO_LARGE = 413
_REFUSED = frozenset({400, _TOO_LARGE, 422})
"""The points are at fault: sending them again cannot help. Anything else may be repaired on the other side."""

log = logging.getLogger("tierwise.influx")


class PointBuffer:
    """Lines that wait, oldest first. When it is full the oldest go, and are counted."""

    def __init__(self, size: int) -> None:
        self.dropped = 0
        self._size = size
        self._lines: deque[bytes] = deque()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._lines)

    def put(self, lines: Iterable[bytes]) -> None:
        """Adds the newest."""
        self._lines.extend(lines)
        while len(self._lines) > self._size:
            self._lines.popleft()
            self.dropped += 1

    def take(self, most: int) -> list[bytes]:
        """Removes and returns the oldest."""
        return [self._lines.popleft() for _ in range(min(most, len(self._lines)))]

    def put_back(self, lines: list[bytes]) -> None:
        """Returns what ``take`` gave, as far as there is still room."""
        room = max(0, self._size - len(self._lines))
        kept = lines[len(lines) - room :] if room < len(lines) else lines
        self.dropped += len(lines) - len(kept)
        self._lines.extendleft(reversed(kept))


class InfluxWriter:
    """Writes the figures of ``metrics`` every interval. ``async with`` starts and stops it.

    Leaving delivers the figures since the last interval, if InfluxDB answers within two seconds. Raises
    ``ConfigurationError`` where a token or certificate file cannot be read.
    """

    def __init__(self, settings: InfluxSettings, metrics: ServiceMetrics, *, service_id: str) -> None:
        self.points = IntervalPoints(service_id=service_id)
        self.buffer = PointBuffer(settings.buffer_points)
        self.written = 0
        self.refused = 0
        self.failures = 0
        self._settings = settings
        self._metrics = metrics
        self._service_id = service_id
        self._cpu = CpuFrequency()
        self._url = write_url(settings)
        self._headers = {
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Encoding": "gzip",
            "User-Agent": "tierwise",
            **authorization(settings),
        }
        self._tls = _tls(settings)
        self._news = asyncio.Event()
        self._stopping = asyncio.Event()
        self._gathering: asyncio.Task[None] | None = None
        self._delivering: asyncio.Task[None] | None = None
        self._since_ns = monotonic_ns()
        self._is_failing = False
        self._batch_points = BATCH_POINTS
        self._too_many: int | None = None
        """Fewest points of a write that was too large; ``None`` once as many were taken."""
        metrics.listen(self.points.add)
        metrics.watch(INFLUX_WRITTEN, lambda: self.written)
        metrics.watch(INFLUX_DROPPED, lambda: self.refused + self.buffer.dropped)
        metrics.watch(INFLUX_FAILURES, lambda: self.failures)
        metrics.watch(INFLUX_BUFFERED, lambda: len(self.buffer))

    async def __aenter__(self) -> Self:
        """Starts gathering and delivering."""
        self._since_ns = monotonic_ns()
        self._gathering = in_background(self._gather(), "figures for InfluxDB")
        self._delivering = in_background(self._deliver(), "delivery to InfluxDB")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Delivers what is left, within a short time."""
        self._stopping.set()
        if self._gathering is not None and self._delivering is not None:
            await asyncio.wait({self._gathering})
            self._delivering.cancel()
            await asyncio.wait({self._delivering})
        with contextlib.suppress(TimeoutError):  # told below
            async with asyncio.timeout(FAREWELL_S):
                while self.buffer and await self._write_batch() is None:
                    pass
        if self.buffer:
            log.warning("points not delivered", extra={"points": len(self.buffer), "url": self._settings.url})

    async def _gather(self) -> None:
        """Ends with the figures since the last interval. Nobody cancels it: an interval half gathered would be lost."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self._stopping.is_set():
            due = max(due + self._settings.interval_s, loop.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._stopping.wait()
            await self._sample()

    async def _sample(self) -> None:
        """Puts the figures since the last call into the buffer."""
        self._metrics.count()
        now_ns, timestamp_ns = monotonic_ns(), time.time_ns()
        interval_s = max(now_ns - self._since_ns, 1) * 1e-9
        self._since_ns = now_ns
        of_requests = self.points.end(interval_s=interval_s, timestamp_ns=timestamp_ns)

        def lines() -> list[bytes]:
            of_machine = machine_points(
                self._cpu, service_id=self._service_id, tier=self._metrics.tier, timestamp_ns=timestamp_ns
            )
            return [line for point in (*of_machine, *of_requests()) if (line := encode(point)) is not None]

        self.buffer.put(await asyncio.to_thread(lines))
        self._news.set()

    async def _deliver(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            self._news.clear()
            while self.buffer:
                wait_s = await self._write_batch()
                if wait_s is None:
                    pause_s = FIRST_PAUSE_S
                    continue
                # Spread out, so that a hundred services do not come back to a restarted server at one instant.
                await asyncio.sleep(max(wait_s, pause_s * random.uniform(0.5, 1.0)))  # noqa: S311 -- no secret
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            await self._news.wait()

    async def _write_batch(self) -> float | None:
        """Writes the oldest points. ``None`` when that is settled, else the least time to wait before the next try."""
        lines = self.buffer.take(self._batch_points)
        settled = is_too_much = False
        try:
            # Compressing takes milliseconds after an outage; zlib lets the requests run meanwhile.
            body = await asyncio.to_thread(gzip.compress, b"\n".join(lines), 6)
            reply = await post(self._url, body, self._headers, tls=self._tls, timeout_s=TIMEOUT_S)
            is_too_much = reply.status == _TOO_LARGE and len(lines) > 1
            settled = not is_too_much and (reply.status // 100 == 2 or reply.status in _REFUSED)  # noqa: PLR2004 -- HTTP's success
        except TransportError as error:
            self._failed(str(error))
            return 0.0
        finally:
            if not settled:
                self.buffer.put_back(lines)
        if is_too_much:  # for a proxy, mostly
            self._shrink(len(lines), reply)
            return None
        if not settled:
            self._failed(_reason(reply))
            return _retry_after_s(reply)
        self._settled(reply, len(lines))
        return None

    def _settled(self, reply: HttpReply, points: int) -> None:
        if reply.status in _REFUSED:
            self.failures += 1
            self.refused += points
            log.warning("points refused", extra={"points": points, "url": self._settings.url, "reason": _reason(reply)})
            return
        self.written += points
        # What was too much for a moment (a proxy that was reloaded) must not cost a request for each point for ever.
        self._batch_points = min(2 * self._batch_points, BATCH_POINTS)
        if self._too_many is not None and points >= self._too_many:
            self._too_many = None
        if self._is_failing:
            self._is_failing = False
            facts = {"url": self._settings.url, "buffered": len(self.buffer), "dropped": self.buffer.dropped}
            log.info("InfluxDB is back", extra=facts)

    def _shrink(self, points: int, reply: HttpReply) -> None:
        """The next writes take half as many."""
        self._batch_points = points // 2
        if self._too_many is None:  # told and counted once a spell: the points do arrive
            self.failures += 1
            facts = {"points": points, "url": self._settings.url, "reason": _reason(reply)}
            log.warning("too many points in one write, sending fewer", extra=facts)
        self._too_many = points if self._too_many is None else min(self._too_many, points)

    def _failed(self, reason: str) -> None:
        self.failures += 1
        if not self._is_failing:  # one line an outage
            self._is_failing = True
            log.warning("InfluxDB does not take points", extra={"url": self._settings.url, "reason": reason})


def write_url(settings: InfluxSettings) -> str:
    """Where points are posted to."""
    base = settings.url.rstrip("/")
    if settings.bucket is not None:
        query = {"org": settings.org or "", "bucket": settings.bucket, "precision": "ns"}
        return f"{base}/api/v2/write?{urlencode(query)}"
    return f"{base}/write?{urlencode({'db': settings.database, 'precision': 'ns'})}"


def authorization(settings: InfluxSettings) -> dict[str, str]:
    """The header that proves who we are; empty without a token. Raises ``ConfigurationError`` for an unusable one."""
    token = os.environ.get(TOKEN_VARIABLE, "")
    if settings.token_file is not None:
        try:
            token = settings.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"cannot read {settings.token_file} (--influx-token-file): {error}") from error
    if settings.username is not None and settings.bucket is None:
        pair = base64.b64encode(f"{settings.username}:{token}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    if settings.username is not None:  # InfluxDB 1.8 wants it so at its /api/v2/write
        token = f"{settings.username}:{token}"
    if not token:
        return {}
    if not (token.isascii() and token.isprintable()):
        raise ConfigurationError("the token for InfluxDB has characters that no HTTP header may carry")
    return {"Authorization": f"Token {token}"}


def _tls(settings: InfluxSettings) -> ssl.SSLContext | None:
    if not settings.url.startswith("https:"):
        return None
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise ConfigurationError(f"cannot read {settings.ca_file} (--influx-ca-file): {error}") from error


def _reason(reply: HttpReply) -> str:
    return f"HTTP {reply.status} {reply.body[:300].decode(errors='replace').strip()}".strip()


def _retry_after_s(reply: HttpReply) -> float:
    told = reply.headers.get("retry-after", "")
    return min(float(told), 10 * LONGEST_PAUSE_S) if told.isascii() and told.isdigit() else 0.0
