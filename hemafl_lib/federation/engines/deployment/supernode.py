"""Flower's SuperNode, which looks for a message soon after the last one, and seldom after a long silence.

Flower's own waits three seconds between two looks, and half a second between two looks for the app's reply. A
round with secure aggregation has four steps or five, so that it would mostly wait. Here the pauses begin
short and grow. All else, the options too, is Flower's. It is run as a file of its own and imports nothing of
the library, which would load PyTorch.
"""

import importlib
import sys
import time

from flwr.supernode.cli import flower_supernode

LOOP = "flwr.supernode.start_client_internal"
"""Flower's module with the loop that waits."""

SHORTEST, GROWTH = 0.05, 1.3
"""Seconds of the first pause, and how much longer each is than the one before."""


class Waits:
    """What stands for the module ``time`` in Flower's loop, which only sleeps."""

    def __init__(self) -> None:
        self.wanted, self.next = 0.0, SHORTEST

    def sleep(self, seconds: float) -> None:
        """Wait for ``seconds`` at most, and longer each time, until the loop waits for something else."""
        if seconds != self.wanted:
            self.wanted, self.next = seconds, SHORTEST
        time.sleep(min(seconds, self.next))
        self.next = min(seconds, self.next * GROWTH)


def main() -> None:
    """Run Flower's program with the arguments of this one."""
    sys.argv[0] = "flower-supernode"
    vars(importlib.import_module(LOOP))["time"] = Waits()
    flower_supernode()


if __name__ == "__main__":
    main()
