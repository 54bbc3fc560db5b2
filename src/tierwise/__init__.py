"""tierwise: one model on the microcontroller, at the edge and in the cloud.

Run it for real on every tier, measure it, decide where it belongs, deploy that choice.
"""

__version__ = "0.1.0"
