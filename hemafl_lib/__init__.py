"""Federated learning in haematology: the library behind the book.

The rooms, from the ground up: ``data``, ``partition``, ``augmentation``, ``models``, ``training``,
``aggregation``, ``federation``, ``privacy``, ``explain``, ``evaluation``, ``experiments``, ``bench``,
``notebook``, and the command ``hemafl`` on top.
A room imports only from rooms below it.
"""

import os

for _switch, _value in {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}.items():
    # Flower and Ray read these once, on import, and would otherwise report usage over the network.
    os.environ.setdefault(_switch, _value)

__version__ = "0.2.0"
