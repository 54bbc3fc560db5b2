"""Whether a service is ready: loaded, warmed, not draining, and reachable by at least one transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tierwise.core.clocks import monotonic_ns

if TYPE_CHECKING:
    from tierwise.serving.dataplane import DataPlane


class Health:
    """Facts for ``GET /health``. A lost broker is a reason to be unready only where MQTT is the sole transport."""

    def __init__(self, plane: DataPlane, *, service_id: str, http: bool) -> None:
        self._plane = plane
        self._service_id = service_id
        self._http = http
        self._started_ns = monotonic_ns()
        self.mqtt_connected: bool | None = None
        """``None`` where the MQTT transport is off."""

    def report(self) -> dict[str, Any]:
        """The body of ``/health``; ``status`` is ``ok`` or ``unavailable``, the latter with a ``reason``."""
        reason = self._reason()
        mqtt = {None: "off", True: "connected", False: "disconnected"}[self.mqtt_connected]
        report: dict[str, Any] = {
            "status": "unavailable" if reason else "ok",
            "service_id": self._service_id,
            "tier": self._plane.tier,
            "model": self._plane.model.name,
            "model_version": self._plane.model.version,
            "runtime": self._plane.model.runtime.name,
            "mqtt": mqtt,
            "requests_in_progress": self._plane.pending,
            "uptime_s": round((monotonic_ns() - self._started_ns) / 1e9, 3),
        }
        return report | {"reason": reason} if reason else report

    def _reason(self) -> str | None:
        if not self._plane.accepting:
            return "draining: the service is stopping"
        if self.mqtt_connected is False and not self._http:
            return "the broker is out of reach"
        return None
