"""Noise that no single party knows: client-level privacy without a server that sees clean updates."""

import math
import secrets
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hemafl_lib.aggregation import Parameters
from hemafl_lib.errors import HemaflError, PrivacyError
from hemafl_lib.federation.mods import UpdateMod, clip_update
from hemafl_lib.secure.session import FEWEST
from hemafl_lib.settings import Count, NotNegative, Positive


@dataclass(frozen=True)
class NoiseShare(UpdateMod):
    """Clip an update and add a site's share of the noise that hides any one site.

    With ``SecureAggregation(weighted=False)`` the server sees the sum of the clipped updates with the noise
    of all sites, of variance (noise * clip)^2 at least, as from `hemafl_lib.privacy.ClientPrivacy`, and
    neither it nor any site knows a clean sum (Goryczka and Xiong 2015; Kairouz et al. 2021). The price in
    epsilon is that of a Gaussian of multiplier ``noise`` for each round:
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
        If a setting is not allowed.
    """

    ERROR: ClassVar[type[HemaflError]] = PrivacyError

    noise: NotNegative = 1.0
    clip: Positive = 1.0
    together: Count = FEWEST

    @property
    def deviation(self) -> float:
        """Standard deviation of one site's share."""
        return self.noise * self.clip / math.sqrt(self.together)

    def change(self, update: Parameters, site: int, round_number: int) -> Parameters:
        """Return the clipped update plus noise that nobody can draw again."""
        generator = np.random.default_rng(secrets.randbits(256))
        return {
            name: value + generator.normal(0, self.deviation, value.shape)
            for name, value in clip_update(update, self.clip).items()
        }
