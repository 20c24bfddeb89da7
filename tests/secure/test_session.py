"""The protocol without messages: masks cancel, parties may be lost, and what must not be told is not told."""

from dataclasses import fields

import numpy as np
import pytest
from scipy import stats

from hemafl_lib.errors import PrivacyError
from hemafl_lib.secure import Party, threshold_of, unmask
from hemafl_lib.secure.fixed_point import subtract
from hemafl_lib.secure.keys import PublicKeys, agreed_keys, commitment, keystream, new_secret
from hemafl_lib.secure.shamir import recover
from hemafl_lib.seeds import numpy_generator

SESSION = b"the session"
SIZE = 500
LEVEL = 0.001
"""Of the tests for uniformity. The masks come from a seed here, so that their answers are always the same."""


def vectors(count: int, words: int = 1):
    generator = numpy_generator(0, "vectors")
    return [generator.integers(0, 2**63, (words, SIZE), dtype=np.uint64) for _ in range(count)]


class Meeting:
    """Parties and an honest server, step by step; those in ``lost`` at a step do not answer it.

    A lying one tells party 0 that others have dealt shares, or asks the first ones other questions.
    """

    def __init__(self, given, *, threshold=None, lost=None, parties=None, first_present=None, questions=()):
        self.given, self.asked, lost = given, threshold, lost or {}
        gone: set[int] = set()

        def left(step):
            gone.update(lost.get(step, ()))
            return [number for number in range(len(given)) if number not in gone]

        every = parties or [Party(SESSION) for _ in given]
        keys = {number: every[number].keys() for number in left("keys")}
        self.parties = [every[number] for number in keys]
        self.values = [given[number] for number in keys]
        self.members = list(keys.values())
        place = {number: k for k, number in enumerate(keys)}
        self.threshold = threshold_of(threshold, len(self.members))
        dealt = {place[n]: every[n].deal(self.members, threshold) for n in left("deal")}
        self.present = list(dealt)
        for number in self.present:
            told = self.present if number or first_present is None else first_present
            self.parties[number].accept(told, [dealt[k][number] for k in told])
        asked = dict(enumerate(questions))
        self.masked = {place[n]: every[n].mask(given[n], asked.get(n, b"")) for n in left("mask")}
        self.survivors = list(self.masked)
        self.tags = {}
        if self.survivors != self.present:
            self.tags = {place[n]: every[n].agree(self.survivors) for n in left("agree")}
        self.revealed = {
            place[n]: every[n].reveal(self.survivors, self.tags_for(place[n])) for n in left("reveal")
        }

    def tags_for(self, number):
        """What the others say to a party about the survivors."""
        none = [b""] * len(self.survivors)
        place = self.survivors.index(number)
        return [self.tags.get(other, none)[place] for other in self.survivors]

    def total(self):
        return unmask(
            SESSION, self.members, self.threshold, self.present, dict(self.masked), dict(self.revealed)
        )

    def expected(self):
        total = self.values[self.survivors[0]].copy()
        for number in self.survivors[1:]:
            total = subtract(total, subtract(np.zeros_like(total), self.values[number]))
        return total


@pytest.mark.parametrize("words", [1, 2])
def test_masks_cancel_in_the_sum(words):
    meeting = Meeting(vectors(4, words))
    assert np.array_equal(meeting.total(), meeting.expected())
    for number, masked in meeting.masked.items():
        assert not np.isclose(masked, meeting.values[number]).mean() > 0.01


@pytest.mark.survives(
    "Hospitals are lost in the midst of a round of secure aggregation",
    "The sum is that of the others, as long as the threshold is kept",
)
@pytest.mark.parametrize("step", ["keys", "deal", "mask", "reveal"])
@pytest.mark.parametrize("gone", [(0,), (4,), (1, 3), (0, 1)])
def test_as_many_as_the_threshold_allows_may_be_lost_at_any_step(step, gone):
    meeting = Meeting(vectors(5), threshold=3, lost={step: gone})
    assert len(meeting.survivors) == (5 if step == "reveal" else 5 - len(gone))
    assert np.array_equal(meeting.total(), meeting.expected())


def test_parties_may_be_lost_at_every_step():
    meeting = Meeting(vectors(7), threshold=4, lost={"deal": [2], "mask": [0], "reveal": [6]})
    assert np.array_equal(meeting.total(), meeting.expected())


@pytest.mark.survives(
    "Fewer hospitals than the threshold are left in a round of secure aggregation",
    "The round has no sum, and each reply says why",
)
@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("keys", "needs at least 3 sites and has 2"),
        ("deal", "2 sites have dealt shares, and threshold=3"),
        ("mask", "2 sites are said to have sent their vectors, and threshold=3"),
        ("reveal", "2 sites were left to take the masks away"),
    ],
)
def test_below_the_threshold_there_is_no_sum(step, told):
    with pytest.raises(PrivacyError, match=told):
        Meeting(vectors(5), lost={step: (0, 2, 4)}).total()


@pytest.mark.parametrize(
    ("asked", "parties", "told"),
    [
        (None, 1, "has 1"),
        (None, 2, "from a sum of two, each learns what the other sent"),
        (2, 3, "threshold=2 is unsafe"),
        (4, 3, "threshold=4"),
        (5, 10, "choose 6 to 10"),
    ],
)
def test_unsafe_thresholds_are_one_sentence(asked, parties, told):
    with pytest.raises(PrivacyError, match=told):
        threshold_of(asked, parties)


def test_by_default_more_than_half_must_stay():
    assert [threshold_of(None, parties) for parties in (3, 4, 5, 6, 10, 50)] == [3, 3, 3, 4, 6, 26]


# --- what the server sees ----------------------------------------------------------------------------


def drawn_secrets(count):
    """Parties whose secrets come from a seed, so that the tests below give the same answer every time."""
    generator = numpy_generator(1, "secrets")
    return [Party(SESSION, *(generator.bytes(32) for _ in range(3))) for _ in range(count)]


def is_uniform(vector) -> bool:
    """Chi-squared over the values of bytes, and Kolmogorov over the integers."""
    counts = np.bincount(vector.view(np.uint8).ravel(), minlength=256)
    share = (vector / 2.0**64).ravel()
    return min(stats.chisquare(counts).pvalue, stats.kstest(share, "uniform").pvalue) > LEVEL


@pytest.fixture(scope="module")
def plain():
    """Updates as they are: nothing, one constant, and a bell of small integers of both signs."""
    bell = np.rint(numpy_generator(2, "bell").normal(0, 1e6, 20_000)).astype(np.int64)
    return [
        np.zeros((1, 20_000), np.uint64),
        np.full((1, 20_000), 12_345, np.uint64),
        bell.view(np.uint64)[None],
    ]


def test_a_masked_vector_cannot_be_told_from_random_integers(plain):
    meeting = Meeting(plain, parties=drawn_secrets(3))
    assert not any(is_uniform(vector) for vector in plain)
    assert all(is_uniform(vector) for vector in meeting.masked.values())


def test_nor_once_its_own_mask_is_known(plain):
    """After the round the server knows each survivor's own mask; the pairwise ones still hide the vector."""
    parties = drawn_secrets(3)
    seeds = [party.seed for party in parties]
    meeting = Meeting(plain, parties=parties)
    for number, seed in enumerate(seeds):
        assert is_uniform(subtract(meeting.masked[number], keystream(seed, plain[0].shape)))


def test_nor_can_all_pairwise_masks_without_its_own_reveal_one_that_came_late(plain):
    """A party held to be lost, whose key was recovered, and whose vector comes after all."""
    parties = drawn_secrets(3)
    secret = parties[0].mask_secret
    meeting = Meeting(plain, parties=parties)
    late = meeting.masked[0]
    for other in (1, 2):
        about = meeting.parties[other].about
        (key,) = agreed_keys(secret, [meeting.members[other].mask], about, "mask")
        late = subtract(late, keystream(key, late.shape))
    assert is_uniform(late)


def test_sealed_shares_differ_for_everybody_and_hide_what_they_hold():
    parties = [Party(SESSION) for _ in range(3)]
    members = [party.keys() for party in parties]
    sealed = parties[0].deal(members, None)
    assert sealed[0] == b""
    assert len(set(sealed)) == 3
    assert parties[0].own_share not in b"".join(sealed)


# --- who lies ----------------------------------------------------------------------------------------


@pytest.mark.survives(
    "A server asks a hospital for both secrets of another one, by which it could read its update",
    "The hospital refuses the second",
)
def test_nobody_tells_both_secrets_of_a_party():
    meeting = Meeting(vectors(5))
    for party in meeting.parties:
        with pytest.raises(PrivacyError, match="asks for 'reveal' after 'reveal'"):
            party.reveal([number for number in meeting.survivors if number != 0])


def test_more_than_half_cannot_be_asked_for_two_secrets():
    """Two of five are told that party 0 is lost, the others that it is not: one secret stays hidden."""
    meeting = Meeting(vectors(5), lost={"reveal": range(5)})
    seeds = {number + 1: meeting.parties[number].reveal(meeting.survivors)[0] for number in range(3)}
    member = meeting.members[0]
    assert recover(seeds, meeting.threshold, commitment, member.commitment) is not None
    tags = [meeting.parties[number].agree(meeting.survivors[1:]) for number in (3, 4)]
    for place, party in enumerate(meeting.parties[3:], 2):
        with pytest.raises(PrivacyError, match="2 sites agree on whose vectors have come, and threshold=3"):
            party.reveal(meeting.survivors[1:], [b"", b"", *(each[place] for each in tags)])


@pytest.mark.survives(
    "A server tells each hospital of other survivors, to have the masks of all but one",
    "The hospitals give up no key unless enough of them were told the same",
)
def test_survivors_that_differ_from_party_to_party_give_no_key():
    """Of five parties with a threshold of three, these answers would give the vector of party 0."""
    meeting = Meeting(vectors(5), lost={"mask": range(5)}, first_present=[0, 1, 2])
    masked = [party.mask(vector) for party, vector in zip(meeting.parties, meeting.given, strict=True)]
    assert len(masked) == 5
    told = {1: [0, 1, 3], 2: [0, 2, 3], 3: [0, 3, 4], 4: [0, 3, 4]}
    tags = {number: meeting.parties[number].agree(who) for number, who in told.items()}
    for number, who in told.items():
        given = [tags[other][who.index(number)] if other in tags else b"" for other in who]
        with pytest.raises(PrivacyError, match="agree on whose vectors have come, and threshold=3 must"):
            meeting.parties[number].reveal(who, given)


def test_nobody_gives_up_a_key_without_being_told_that_others_agree():
    meeting = Meeting(vectors(5), lost={"reveal": range(5)})
    with pytest.raises(PrivacyError, match="asks for 'reveal' after 'mask'"):
        meeting.parties[0].reveal([0, 1, 2])


def test_what_was_agreed_on_is_what_is_revealed():
    meeting = Meeting(vectors(5), lost={"mask": [4], "reveal": range(5)})
    with pytest.raises(PrivacyError, match="sites agree on whose vectors have come"):
        meeting.parties[0].reveal([0, 1, 2], meeting.tags_for(0)[:3])


def test_a_wrong_tag_does_not_count_and_keeps_nobody_from_going_on():
    meeting = Meeting(vectors(5), threshold=3, lost={"mask": [4], "reveal": range(5)})
    tags = meeting.tags_for(0)
    assert meeting.parties[0].reveal(meeting.survivors, [tags[0], b"odd", *tags[2:]])


@pytest.mark.survives(
    "A server sends one hospital another model, or another list of hospitals, to have its update alone",
    "The masks of the hospitals do not cancel, and there is no sum",
)
@pytest.mark.parametrize("kind", ["question", "present"])
def test_masks_of_parties_that_were_told_different_things_do_not_cancel(kind):
    meeting = Meeting(
        vectors(5),
        questions=[b"odd"] if kind == "question" else [],
        first_present=[0, 1, 2, 3] if kind == "present" else None,
        lost={"reveal": [0]},
    )
    assert not np.isclose(meeting.total(), meeting.expected()).mean() > 0.01


def test_shares_of_parties_with_different_lists_cannot_be_opened():
    parties = [Party(SESSION) for _ in range(4)]
    members = [party.keys() for party in parties]
    dealt = [party.deal(members, None) for party in parties[:3]]
    parties[3].deal([members[0], members[2], members[1], members[3]], None)
    with pytest.raises(PrivacyError, match=r"site number 0 sealed for this one .* was changed on its way"):
        parties[3].accept([0, 1, 2, 3], [dealt[0][3], dealt[1][3], dealt[2][3], b""])


def test_the_same_key_in_other_bytes_is_refused():
    """X25519 takes no notice of the last bit: a server could list a site twice, and masks would cancel."""
    keys = Party(SESSION).keys()
    for name in ("mask", "seal"):
        other = getattr(keys, name)[:-1] + bytes([getattr(keys, name)[-1] | 128])
        with pytest.raises(PrivacyError, match=f"its {name} key is none of X25519"):
            PublicKeys(**{**vars(keys), name: other})


@pytest.mark.parametrize("name", ["mask", "seal"])
@pytest.mark.parametrize("point", [0, 1, 2**255 - 20], ids=["zero", "one", "minus one"])
def test_a_key_by_which_everybody_agrees_on_the_same_is_refused(name, point):
    keys = vars(Party(SESSION).keys())
    with pytest.raises(PrivacyError, match=f"its {name} key is none of X25519"):
        PublicKeys(**{**keys, name: point.to_bytes(32, "little")})


@pytest.mark.parametrize(
    ("survivors", "told"),
    [
        ([1, 2, 3], "not among those"),
        ([0, 0, 1, 2], "none of this session"),
        ([0, 1, 2, 9], "none of this session"),
        ([2, 1, 0], "none of this session"),
        ([0, 1], "2 sites are said"),
    ],
)
def test_survivors_that_cannot_be_are_refused(survivors, told):
    meeting = Meeting(vectors(4), lost={"reveal": range(4)})
    with pytest.raises(PrivacyError, match=told):
        meeting.parties[0].agree(survivors)


def test_a_step_is_taken_once_and_in_order():
    party = Party(SESSION)
    with pytest.raises(PrivacyError, match="asks for 'reveal' after 'nothing'"):
        party.reveal([0, 1, 2])
    party.keys()
    with pytest.raises(PrivacyError, match="asks for 'keys' after 'keys'"):
        party.keys()


def test_keys_that_are_not_its_own_or_made_up_are_refused():
    def asked(change):
        party = Party(SESSION)
        members = [party.keys(), *(Party(SESSION).keys() for _ in range(3))]
        return party.deal(change(members), None)

    assert len(asked(lambda members: members)) == 4
    with pytest.raises(PrivacyError, match="does not list this site's keys"):
        asked(lambda members: members[1:])
    with pytest.raises(PrivacyError, match="two sites show the same key"):
        asked(lambda members: [*members, members[-1]])
    with pytest.raises(PrivacyError, match="none of X25519"):
        asked(lambda members: [*members, PublicKeys(new_secret(), bytes(32), bytes(32))])
    with pytest.raises(PrivacyError, match="mask key is not 32 bytes"):
        PublicKeys(b"short", bytes(32), bytes(32))


@pytest.mark.survives(
    "A share is changed on its way, or belongs to another session",
    "The hospital that gets it leaves the session and says so",
)
@pytest.mark.parametrize(
    "kind", ["changed", "of another session", "of another sender", "of another receiver"]
)
def test_shares_that_are_not_as_they_were_dealt_are_refused(kind):
    parties, others = ([Party(session) for _ in range(3)] for session in (SESSION, b"another"))
    members = [party.keys() for party in parties]
    dealt = [party.deal(members, None) for party in parties]
    elsewhere = [party.keys() for party in others]
    foreign = [party.deal(elsewhere, None) for party in others]
    wrong = {
        "changed": dealt[1][0][:-1] + bytes([dealt[1][0][-1] ^ 1]),
        "of another session": foreign[1][0],
        "of another sender": dealt[2][0],
        "of another receiver": dealt[1][2],
    }[kind]
    with pytest.raises(PrivacyError, match=r"site number 1 sealed for this one .* was changed on its way"):
        parties[0].accept([0, 1, 2], [b"", wrong, dealt[2][0]])


@pytest.mark.survives(
    "A hospital gives up wrong shares",
    "Right ones take their place where there are enough; else the round has no sum and says so",
)
def test_wrong_shares_are_passed_over_or_found_out():
    meeting = Meeting(vectors(5), threshold=3, lost={"mask": [4]})
    honest = dict(meeting.revealed)
    meeting.revealed[1] = [bytes(33)] * 5
    assert np.array_equal(meeting.total(), meeting.expected())
    del meeting.revealed[0]
    with pytest.raises(PrivacyError, match="shares of site number 0 do not fit together"):
        meeting.total()
    meeting.revealed = honest
    assert np.array_equal(meeting.total(), meeting.expected())


def test_every_session_has_keys_of_its_own_and_they_are_forgotten():
    first, second = Meeting(vectors(3)), Meeting(vectors(3))
    keys = [key for meeting in (first, second) for member in meeting.members for key in vars(member).values()]
    assert len(set(keys)) == len(keys)
    for party in first.parties:
        assert party.mask_secret == party.seal_secret == party.seed == b""


def test_secrets_are_not_shown():
    party = Party(SESSION)
    assert party.mask_secret.hex() not in repr(party)
    hidden = {field.name for field in fields(Party) if not field.repr}
    assert hidden == {"mask_secret", "seal_secret", "seed", "opening_keys", "own_share", "shares", "tag_keys"}
    assert len({new_secret() for _ in range(10)}) == 10
