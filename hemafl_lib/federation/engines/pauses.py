"""Pauses between questions to a program: short while answers come, longer while none does."""

import time
from dataclasses import dataclass

SHORTEST = 0.05
"""Seconds of the first pause after an answer."""

GROWTH = 1.3
"""How much longer each pause is than the one before."""


@dataclass
class Pauses:
    """Pauses of at most ``longest`` seconds: whoever has nothing to do for a day asks seldom.

    Attributes
    ----------
    longest
        Seconds of the longest pause.
    next
        Seconds of the next one.
    """

    longest: float
    next: float = SHORTEST

    def pause(self) -> None:
        """Wait, and longer the next time."""
        time.sleep(self.next)
        self.next = min(self.longest, self.next * GROWTH)

    def answered(self) -> None:
        """Begin again with the shortest pause."""
        self.next = SHORTEST
