"""Model cards, the example models, and what trains and exports them.

``models.card`` is light: a service reads cards without torch, onnx or scikit-learn. Everything that needs those is
imported only by ``models.create`` and, for checkpoints, by whoever builds an architecture.
"""
