"""The event engine's inner loop: plain functions over integer tables, compiled where numba is installed."""
