r"""The protocol of Bonawitz et al. (2017), without the messages that carry it.

n sites hold vectors :math:`x_i` of integers, and the server shall learn their sum and nothing else. Each pair
of sites agrees on a mask :math:`m_{ij}`, which one adds and the other takes away, and each site has a mask
:math:`b_i` of its own:

.. math:: y_i = x_i + b_i + \sum_{j > i} m_{ij} - \sum_{j < i} m_{ij}
    \quad\Rightarrow\quad \sum_i y_i = \sum_i x_i + \sum_i b_i .

A `Party` is a site, in four steps: it shows keys (`Party.keys`); it deals shares of its two secrets, the seed
of :math:`b_i` and the key of its :math:`m_{ij}` (`Party.deal`); it masks its vector (`Party.accept`, `mask`);
it gives up the shares of either the one or the other secret of each site (`Party.reveal`). The server unmasks
(`unmask`): of a site whose vector came it needs :math:`b_i`, of one that was lost on the way the
:math:`m_{ij}`. With both it could read a vector that came late, so no party ever tells both, and with a
threshold above n/2 a server cannot get the one from some parties and the other from the rest.

Parties are numbered from 0 on, in the order in which the server lists their keys.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

from hemafl_lib.errors import PrivacyError
from hemafl_lib.secure.fixed_point import Vector, add, subtract
from hemafl_lib.secure.keys import (
    KEY,
    PublicKeys,
    agreed_keys,
    commitment,
    keystream,
    new_secret,
    public_key,
    seal,
    unseal,
)
from hemafl_lib.secure.shamir import SHARE, recover, split

FEWEST = 3
"""Sites whose sum tells none of them what another sent."""

STEPS = ("keys", "deal", "mask", "reveal")
"""What a party does in a session, each once and in this order."""


def threshold_of(asked: int | None, parties: int) -> int:
    """Return how many of so many parties must stay to the end.

    By default that is more than half of them, and at least `FEWEST`. Raises `PrivacyError` where it would be
    unsafe: below `FEWEST`, at half of them or less, or above their number.
    """
    if parties < FEWEST:
        raise PrivacyError(
            f"secure aggregation needs at least {FEWEST} sites and has {parties}: from a sum of two, each "
            "learns what the other sent by taking away its own; give more sites."
        )
    lowest = max(FEWEST, parties // 2 + 1)
    if asked is not None and not lowest <= asked <= parties:
        raise PrivacyError(
            f"threshold={asked} is unsafe or too high for {parties} sites; choose {lowest} to {parties}: "
            "with half or fewer, a server could ask some for one secret of a site and the rest for the other."
        )
    return lowest if asked is None else asked


@dataclass
class Party:
    """What a site knows in one session; every field is plain, so that it can be kept between messages.

    Attributes
    ----------
    session
        The server's name for the session, part of every key.
    mask_secret, seal_secret, seed
        Its secrets, new in every session.
    done
        The last step that it has taken.
    threshold, number
        How many parties must stay, and which of them it is.
    mask_keys
        The parties' public keys for masks.
    opening_keys
        The keys of what the parties seal for it.
    own_share
        The share of its own two secrets that it keeps.
    present
        The parties that have dealt shares, once it knows them.
    shares
        What it holds of each of these.
    """

    session: bytes
    mask_secret: bytes = field(default_factory=new_secret, repr=False)
    seal_secret: bytes = field(default_factory=new_secret, repr=False)
    seed: bytes = field(default_factory=new_secret, repr=False)
    done: str = ""
    threshold: int = 0
    number: int = -1
    mask_keys: list[bytes] = field(default_factory=list)
    opening_keys: list[bytes] = field(default_factory=list, repr=False)
    own_share: bytes = field(default=b"", repr=False)
    present: list[int] = field(default_factory=list)
    shares: list[bytes] = field(default_factory=list, repr=False)

    def keys(self) -> PublicKeys:
        """Show the public keys."""
        self._step("keys")
        return PublicKeys(public_key(self.mask_secret), public_key(self.seal_secret), commitment(self.seed))

    def deal(self, members: Sequence[PublicKeys], threshold: int | None) -> list[bytes]:
        """Return a sealed share of both secrets for each party; its own place is empty.

        Raises `PrivacyError` if the parties are too few for the threshold, if two have the same keys, or if
        its own are not among them.
        """
        self._step("deal")
        self.threshold = threshold_of(threshold, len(members))
        self.mask_keys = [each.mask for each in members]
        if len({*self.mask_keys, *(each.seal for each in members)}) < 2 * len(members):
            raise PrivacyError("two sites show the same key, so the server makes sites up; ask who runs it.")
        if public_key(self.mask_secret) not in self.mask_keys:
            raise PrivacyError("the server does not list this site's keys; ask who runs it.")
        self.number = self.mask_keys.index(public_key(self.mask_secret))
        pairs = zip(
            split(self.seed, self.threshold, len(members)),
            split(self.mask_secret, self.threshold, len(members)),
            strict=True,
        )
        shares = [seed_share + key_share for seed_share, key_share in pairs]
        self.own_share = shares[self.number]
        sealing, self.opening_keys = self._channels(members)
        return [
            b"" if number == self.number else seal(key, share, self.session)
            for number, (key, share) in enumerate(zip(sealing, shares, strict=True))
        ]

    def accept(self, present: Sequence[int], sealed: Sequence[bytes]) -> None:
        """Take the shares that the parties ``present`` have dealt to it, in their order; its own is empty.

        Raises `PrivacyError` if they are too few, are not its own, or were changed.
        """
        self._step("mask")
        self.present = self._checked(present, range(len(self.mask_keys)), "have dealt shares")
        if len(sealed) != len(self.present):
            raise PrivacyError("there is not one share from each site; ask who runs the server.")
        self.shares = [
            self.own_share if number == self.number else self._unseal(number, text)
            for number, text in zip(self.present, sealed, strict=True)
        ]

    def mask(self, vector: Vector) -> Vector:
        """Return a vector with its masks, which cannot be told from random integers; forget the secrets."""
        total = add(vector, keystream(self.seed, vector.shape))
        others = [number for number in self.present if number != self.number]
        keys = agreed_keys(self.mask_secret, [self.mask_keys[n] for n in others], self.session, "mask")
        for other, key in zip(others, keys, strict=True):
            mask = keystream(key, vector.shape)
            total = add(total, mask) if self.number < other else subtract(total, mask)
        self.mask_secret = self.seal_secret = self.seed = b""
        return total

    def reveal(self, survivors: Sequence[int]) -> list[bytes]:
        """Return a share of one secret of each party present: the seed of survivors, the key of the others.

        Raises `PrivacyError` if the survivors are too few, or it is not one of them.
        """
        self._step("reveal")
        alive = self._checked(survivors, self.present, "are said to have sent their vectors")
        held = zip(self.present, self.shares, strict=True)
        return [share[:SHARE] if number in alive else share[SHARE:] for number, share in held]

    def _step(self, step: str) -> None:
        """Note a step; raise `PrivacyError` unless it comes next."""
        expected = STEPS[STEPS.index(self.done) + 1 :] if self.done else STEPS
        if not expected or step != expected[0]:
            raise PrivacyError(
                f"the server asks for '{step}' after '{self.done or 'nothing'}'; each step of a session is "
                "taken once and in order, so ask who runs the server."
            )
        self.done = step

    def _checked(self, numbers: Sequence[int], among: Iterable[int], what: str) -> list[int]:
        """Return numbers of parties; raise `PrivacyError` if they cannot be those that ``what`` says."""
        if sorted(set(numbers)) != list(numbers) or not set(numbers) <= set(among):
            raise PrivacyError(f"the sites that {what} are none of this session; ask who runs the server.")
        if self.number not in numbers:
            raise PrivacyError(f"this site is not among those that {what}; ask who runs the server.")
        if len(numbers) < self.threshold:
            raise PrivacyError(
                f"{len(numbers)} sites {what}, and threshold={self.threshold} must; let the others come back."
            )
        return list(numbers)

    def _channels(self, members: Sequence[PublicKeys]) -> tuple[list[bytes], list[bytes]]:
        """Return the keys of what goes to each party, and of what comes from it.

        Two parties agree on both: the first half is for what the one of the lower number seals.
        """
        keys = agreed_keys(self.seal_secret, [m.seal for m in members], self.session, "shares", 2 * KEY)
        halves = [
            (key[:KEY], key[KEY:]) if self.number < number else (key[KEY:], key[:KEY])
            for number, key in enumerate(keys)
        ]
        return [out for out, _ in halves], [back for _, back in halves]

    def _unseal(self, other: int, sealed: bytes) -> bytes:
        """Return the share that another party has dealt to it."""
        share = unseal(self.opening_keys[other], sealed, self.session)
        if len(share) != 2 * SHARE:
            raise PrivacyError("another site dealt a share of a wrong size; let it run this library.")
        return share


def unmask(
    session: bytes,
    members: Sequence[PublicKeys],
    threshold: int,
    present: Sequence[int],
    masked: Mapping[int, Vector],
    revealed: Mapping[int, Sequence[bytes]],
) -> Vector:
    """Return the sum of the vectors that came.

    Parameters
    ----------
    session, members, threshold
        As the parties know them.
    present
        The parties that have dealt shares.
    masked
        The vectors that came, by party.
    revealed
        What parties returned from `Party.reveal`, by party.

    Raises
    ------
    PrivacyError
        If fewer than the threshold have revealed shares, or a secret that is needed cannot be recovered from
        them; the sum is then lost.
    """
    if len(revealed) < threshold:
        raise PrivacyError(
            f"{len(revealed)} sites were left to take the masks away, and threshold={threshold} are needed; "
            "let the others come back, and run the round again."
        )
    total = reduce(add, masked.values())
    for place, number in enumerate(present):
        shares = {helper + 1: given[place] for helper, given in revealed.items()}
        member = members[number]
        if number in masked:
            seed = checked(recover(shares, threshold, commitment, member.commitment), number)
            total = subtract(total, keystream(seed, total.shape))
            continue
        secret = checked(recover(shares, threshold, public_key, member.mask), number)
        keys = agreed_keys(secret, [members[other].mask for other in masked], session, "mask")
        for other, key in zip(masked, keys, strict=True):
            mask = keystream(key, total.shape)
            total = subtract(total, mask) if other < number else add(total, mask)
    return total


def checked(secret: bytes | None, number: int) -> bytes:
    """Return a recovered secret; raise `PrivacyError` if there is none."""
    if secret is None:
        raise PrivacyError(
            f"the shares of site number {number} do not fit together, so its mask stays; look for a site "
            "whose shares are wrong, and run the round again."
        )
    return secret
