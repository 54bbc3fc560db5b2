"""Benchmarks that state their target: ``python -m benchmarks [NAME...]``."""
