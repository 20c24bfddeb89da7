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
threshold t above n/2 a server cannot get the one from some parties and the other from the rest.

That does not suffice against a server that tells each party of other survivors: of five parties with t = 3 it
could have the keys of all but one. So there is a step between, wherever a party was lost after the shares
(`Party.agree`): each survivor tags what it was told, for each other one, and none gives up a key unless t say
the same. Then only one set of survivors can be summed, and t of them are those that agreed on it.

What else a server could tell each party differently goes into the keys: the list of parties, who has dealt
shares, and what they are asked (the model, for example). Masks of parties that differ in one do not cancel.

Parties are numbered from 0 on, in the order in which the server lists their keys.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from hmac import compare_digest

from hemafl_lib.errors import PrivacyError
from hemafl_lib.secure.fixed_point import Vector, add, subtract
from hemafl_lib.secure.keys import (
    KEY,
    SEAL,
    PublicKeys,
    agreed_keys,
    commitment,
    digest,
    keystream,
    new_secret,
    public_key,
    seal,
    tag,
    unseal,
)
from hemafl_lib.secure.shamir import SHARE, recover, split

FEWEST = 3
"""Sites whose sum tells none of them what another sent."""

SEALED = 2 * SHARE + SEAL
"""Bytes of what a party seals for another: a share of each of its two secrets."""

PROTOCOL = b"hemafl secure aggregation 3"
"""What sites must have in common to understand each other; it changes with what is below."""


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
        The server's name for the session.
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
    tag_keys
        The keys of the tags that it makes for each party and that each makes for it, end to end.
    own_share
        The share of its own two secrets that it keeps.
    present
        The parties that have dealt shares, once it knows them.
    shares
        What it holds of each of these.
    about
        What it was told so far, as a digest: part of every key that it has in common with another.
    survivors
        Whose vectors it has agreed have come, once it was asked.
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
    tag_keys: list[bytes] = field(default_factory=list, repr=False)
    about: bytes = b""
    survivors: list[int] = field(default_factory=list)

    def keys(self) -> PublicKeys:
        """Show the public keys."""
        self._step("keys", "")
        return PublicKeys(public_key(self.mask_secret), public_key(self.seal_secret), commitment(self.seed))

    def deal(self, members: Sequence[PublicKeys], threshold: int | None) -> list[bytes]:
        """Return a sealed share of both secrets for each party; its own place is empty.

        Raises `PrivacyError` if the parties are too few for the threshold, if two have the same keys, or if
        its own are not among them.
        """
        self._step("deal", "keys")
        self.threshold = threshold_of(threshold, len(members))
        self.mask_keys = [each.mask for each in members]
        if len({*self.mask_keys, *(each.seal for each in members)}) < 2 * len(members):
            raise PrivacyError("two sites show the same key, so the server makes sites up; ask who runs it.")
        if public_key(self.mask_secret) not in self.mask_keys:
            raise PrivacyError("the server does not list this site's keys; ask who runs it.")
        self.number = self.mask_keys.index(public_key(self.mask_secret))
        self.about = listed(self.session, members)
        pairs = zip(
            split(self.seed, self.threshold, len(members)),
            split(self.mask_secret, self.threshold, len(members)),
            strict=True,
        )
        shares = [seed_share + key_share for seed_share, key_share in pairs]
        self.own_share = shares[self.number]
        sealing, self.opening_keys, self.tag_keys = self._channels(members)
        return [
            b"" if number == self.number else seal(key, share, self.about)
            for number, (key, share) in enumerate(zip(sealing, shares, strict=True))
        ]

    def accept(self, present: Sequence[int], sealed: Sequence[bytes]) -> None:
        """Take the shares that the parties ``present`` have dealt to it, in their order; its own is empty.

        Raises `PrivacyError` if they are too few, are not its own, or were changed.
        """
        self._step("mask", "deal")
        self.present = self._checked(present, range(len(self.mask_keys)), "have dealt shares")
        if len(sealed) != len(self.present):
            raise PrivacyError("there is not one share from each site; ask who runs the server.")
        self.shares = [
            self.own_share if number == self.number else self._unseal(number, text)
            for number, text in zip(self.present, sealed, strict=True)
        ]

    def mask(self, vector: Vector, question: bytes = b"") -> Vector:
        """Return a vector with its masks, which cannot be told from random integers; forget the secrets.

        ``question`` is a digest of what the party was asked: the masks of two parties cancel only if it is
        the same for both.
        """
        self.about = summed(self.about, self.present, question)
        total = add(vector, keystream(self.seed, vector.shape))
        others = [number for number in self.present if number != self.number]
        keys = agreed_keys(self.mask_secret, [self.mask_keys[n] for n in others], self.about, "mask")
        for other, key in zip(others, keys, strict=True):
            mask = keystream(key, vector.shape)
            total = add(total, mask) if self.number < other else subtract(total, mask)
        self.mask_secret = self.seal_secret = self.seed = b""
        return total

    def agree(self, survivors: Sequence[int]) -> list[bytes]:
        """Return a tag for each survivor, which tells it what this party was told; its own is empty.

        Raises `PrivacyError` if the survivors are too few, or it is not one of them.
        """
        self._step("agree", "mask")
        self.survivors = self._survivors(survivors)
        text = self._agreed()
        return [
            b"" if number == self.number else tag(self.tag_keys[number][:KEY], text)
            for number in self.survivors
        ]

    def reveal(self, survivors: Sequence[int], tags: Sequence[bytes] = ()) -> list[bytes]:
        """Return a share of one secret of each party present: the seed of survivors, the key of the others.

        ``tags`` are what the survivors made for it in `agree`, in their order, empty for its own and for one
        that made none. Where nobody was lost no key is given up, and none need agree.

        Raises `PrivacyError` if the survivors are too few, it is not one of them, or too few agree on them.
        """
        self._step("reveal", "agree", *(["mask"] if list(survivors) == self.present else []))
        alive = self._survivors(survivors)
        if self.survivors:
            self._check_agreed(alive, tags)
        held = zip(self.present, self.shares, strict=True)
        return [share[:SHARE] if number in alive else share[SHARE:] for number, share in held]

    def _survivors(self, numbers: Sequence[int]) -> list[int]:
        return self._checked(numbers, self.present, "are said to have sent their vectors")

    def _agreed(self) -> bytes:
        """Return what parties agree on by their tags."""
        return digest(self.about, *(number.to_bytes(4) for number in self.survivors))

    def _check_agreed(self, alive: Sequence[int], tags: Sequence[bytes]) -> None:
        """Raise `PrivacyError` unless as many as the threshold agree on who has sent its vector."""
        text, agreed = self._agreed(), 0
        for number, given in zip(self.survivors, tags, strict=False):
            agreed += number == self.number or compare_digest(given, tag(self.tag_keys[number][KEY:], text))
        if alive != self.survivors or agreed < self.threshold:
            raise PrivacyError(
                f"{agreed} sites agree on whose vectors have come, and threshold={self.threshold} must; the "
                "server may have told each another thing, so ask who runs it."
            )

    def _step(self, step: str, *after: str) -> None:
        """Note a step; raise `PrivacyError` unless it comes next."""
        if self.done not in after:
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

    def _channels(self, members: Sequence[PublicKeys]) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """Return the keys of the shares that go to each party, of those that come from it, and of tags.

        Two parties agree on four keys, for shares and for tags; the first of each two is for what the one of
        the lower number makes.
        """
        keys = agreed_keys(self.seal_secret, [m.seal for m in members], self.about, "shares", 4 * KEY)
        quarters = [[key[start : start + KEY] for start in range(0, 4 * KEY, KEY)] for key in keys]
        own = [
            (a, b, c + d) if self.number < number else (b, a, d + c)
            for number, (a, b, c, d) in enumerate(quarters)
        ]
        return [out for out, _, _ in own], [back for _, back, _ in own], [tags for _, _, tags in own]

    def _unseal(self, other: int, sealed: bytes) -> bytes:
        """Return the share that another party has dealt to it; raise `PrivacyError`, which names that one."""
        try:
            share = unseal(self.opening_keys[other], sealed, self.about)
        except PrivacyError:
            raise PrivacyError(
                f"what site number {other} sealed for this one was sealed wrong, or was changed on its way; "
                "if others say the same, ask that site, and else who runs the server."
            ) from None
        if len(share) != 2 * SHARE:
            raise PrivacyError(f"site number {other} dealt a share of a wrong size; let it run this library.")
        return share


def listed(session: bytes, members: Sequence[PublicKeys]) -> bytes:
    """Return what a session and its parties are, as a digest."""
    return digest(PROTOCOL, session, *(key for member in members for key in vars(member).values()))


def summed(about: bytes, present: Sequence[int], question: bytes) -> bytes:
    """Return what is summed, as a digest: over which of the parties, and what they were asked."""
    return digest(about, question, *(number.to_bytes(4) for number in present))


def unmask(
    session: bytes,
    members: Sequence[PublicKeys],
    threshold: int,
    present: Sequence[int],
    masked: Mapping[int, Vector],
    revealed: Mapping[int, Sequence[bytes]],
    question: bytes = b"",
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
    question
        As in `Party.mask`.

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
    total, about = reduce(add, masked.values()), summed(listed(session, members), present, question)
    for place, number in enumerate(present):
        shares = {helper + 1: given[place] for helper, given in revealed.items()}
        member = members[number]
        if number in masked:
            seed = checked(recover(shares, threshold, commitment, member.commitment), number)
            total = subtract(total, keystream(seed, total.shape))
            continue
        secret = checked(recover(shares, threshold, public_key, member.mask), number)
        keys = agreed_keys(secret, [members[other].mask for other in masked], about, "mask")
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
