"""The reference page of all settings, made from the annotations that define them."""

from __future__ import annotations

from typing import get_type_hints

import msgspec

from tierwise.serving.settings import Field, ServiceSettings, choices, fields


def settings_page() -> str:
    """Markdown of every setting: environment variable, option, default, and what it is for."""
    lines = [
        "# Settings of a service\n",
        "`tierwise serve` and `tierwise cloud` take each setting from the command line or from the environment; the",
        "command line wins. `tierwise cloud` has other defaults: tier `cloud`, 50 ms each way, no HTTP.",
        "`MQTT_BROKER_HOST` and `MQTT_BROKER_PORT` set the broker where `TIERWISE_MQTT` and `--mqtt` do not; of a port",
        "in the form `tcp://ADDRESS:PORT`, which Kubernetes sets for a Service `mqtt-broker`, the number counts.\n",
    ]
    groups: dict[str, list[Field]] = {}
    for field in fields():
        groups.setdefault(field.path[0] if len(field.path) > 1 else "", []).append(field)
    hints = get_type_hints(ServiceSettings)
    for name, members in groups.items():
        title = (hints[name] if name else ServiceSettings).__doc__ or ""
        lines += [
            f"## {title.strip().splitlines()[0].rstrip('.')}\n",
            "| Variable | Option | Default | |",
            "| --- | --- | --- | --- |",
        ]
        for field in members:
            setting = field.setting
            words = choices(field)
            told = setting.help + (f" One of {', '.join(f'`{word}`' for word in words)}." if words else "")
            row = (f"`{setting.env}`", f"`{setting.option}`", _default(field), told.replace("|", "\\|"))
            lines.append(f"| {' | '.join(row)} |")
        lines.append("")
    return "\n".join(lines)


def _default(field: Field) -> str:
    if field.default is msgspec.NODEFAULT:
        return "needed"
    if field.default is None:
        return "" if field.path[-1] != "endpoint" else "off"
    if field.default is False:
        return "off"
    unit = f" {field.setting.unit}" if field.setting.unit else ""
    return f"`{field.default}`{unit}"
