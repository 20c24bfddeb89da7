"""Federated learning in haematology: the library behind the book.

The rooms, from the ground up: ``errors``; the tools ``files``, ``seeds``, ``progress``, ``settings``,
``device`` and ``parallel``; ``data``, ``partition``, ``augmentation``, ``models``, ``training``,
``aggregation``, ``federation``, ``statistics``, ``privacy``, ``explain`` and ``evaluation``. A room imports
only from rooms before it. The book's own machinery is another package, ``hemafl_book``, of which nothing here
knows.
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
