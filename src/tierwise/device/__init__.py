"""The device tier: an int8 .tflite file becomes C99, Cortex-M firmware and answers over a serial line."""
