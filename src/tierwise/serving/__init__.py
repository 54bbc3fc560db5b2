"""Serving a model: one data plane, thin MQTT and HTTP transports, metrics, settings, and the cloud service."""
