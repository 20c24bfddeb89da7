"""Noise that no single party knows: client-level privacy without a server that sees clean updates."""

import math
import secrets
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MessageType

from hemafl_lib.aggregation import Parameters
from hemafl_lib.errors import HemaflError, PrivacyError
from hemafl_lib.federation.compression import STATISTICS
from hemafl_lib.federation.flower_private import ClientAppCallable
from hemafl_lib.federation.mods import Defence, clip_update
from hemafl_lib.secure.grid import MASKED, SECURE
from hemafl_lib.secure.session import FEWEST
from hemafl_lib.settings import Count, NotNegative, Positive


@dataclass(frozen=True)
class NoiseShare(Defence):
    """Clip an update and add a site's share of the noise that hides any one site.

    With ``SecureAggregation(weighted=False)`` the server sees the sum of the clipped updates with the noise
    of all sites, of variance (noise * clip)^2 at least, as from `hemafl_lib.privacy.ClientPrivacy`, and
    neither it nor any site knows a clean sum (Goryczka and Xiong 2015; Kairouz et al. 2021). Which sites take
    part, their examples in all, counters, and metrics that are told are taken as public. The price in epsilon
    is that of a Gaussian of multiplier ``noise`` for each round:
    ``privacy.epsilon([privacy.Steps(noise, 1.0, rounds)], delta)``. c sites that work with the server take
    their shares off; to bear with them let ``together`` be the threshold less c.

    The noise comes from the system's generator and from no seed: whoever could draw it again could take it
    off. So no two runs are the same.

    Attributes
    ----------
    noise
        Standard deviation of the whole noise, divided by ``clip``.
    clip
        Largest norm of an update, over all floating-point arrays together.
    together
        The sites whose shares must make up the whole: the threshold of the secure aggregation, since the sum
        may hold no more.

    Raises
    ------
    PrivacyError
        If a setting is not allowed; at a site, if there is no secure aggregation around it, or one in which
        the noise would be too little: a weighted one, or one whose threshold is below ``together``; or if
        secure aggregation stands within it and not around it.
    """

    ERROR: ClassVar[type[HemaflError]] = PrivacyError

    noise: NotNegative = 1.0
    clip: Positive = 1.0
    together: Count = FEWEST

    @property
    def deviation(self) -> float:
        """Standard deviation of one site's share."""
        return self.noise * self.clip / math.sqrt(self.together)

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """As `UpdateMod`; no site answers where its noise would be too little or too late."""
        if message.metadata.message_type == MessageType.TRAIN:
            self._check_enough(message)
        return super().__call__(message, context, lambda *asked: unmasked(call_next(*asked)))

    def _check_enough(self, message: Message) -> None:
        around = message.content.get(SECURE, ConfigRecord())
        threshold = around.get("threshold")
        enough = isinstance(threshold, int) and threshold >= self.together
        if around.get("weighted", True) or not enough:
            raise PrivacyError(
                f"its share of the noise is enough only in a sum of together={self.together} sites or more "
                "that count the same; put SecureAggregation(weighted=False) around it, with that threshold."
            )

    def change(self, update: Parameters, site: int, round_number: int) -> Parameters:
        """Return the clipped update plus noise that nobody can draw again.

        Raises `PrivacyError` for running statistics of batch norm, whose variance noise can make negative.
        """
        if odd := [name for name in update if name.endswith(STATISTICS)]:
            raise PrivacyError(
                f"array '{odd[0]}' is a running statistic of batch norm, which noise makes useless; use "
                "norm='group', or keep it at the sites with keep_local."
            )
        generator = np.random.default_rng(secrets.randbits(256))
        return {
            name: value + generator.normal(0, self.deviation, value.shape)
            for name, value in clip_update(update, self.clip).items()
        }


def unmasked(reply: Message) -> Message:
    """Return the reply; raise `PrivacyError` if its arrays are masked.

    They are integers, to which noise would not be added, whatever the server says of what is around it.
    """
    if reply.has_content() and "arrays" in reply.content and MASKED in reply.content["arrays"]:
        raise PrivacyError("the reply is masked already, so noise comes too late; put NoiseShare within it.")
    return reply
