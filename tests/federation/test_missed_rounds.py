"""A round without any usable reply is never passed over in silence."""

import pytest
from builders.federated import linear, sites

from hemafl_lib import federation
from hemafl_lib.errors import FederationError
from hemafl_lib.training import Recipe

RECIPE = Recipe(learning_rate=0.05, batch_size=8)


def fail_in(*rounds):
    """A mod that fails in these rounds."""

    def mod(message, context, call_next):
        if message.content["config"]["server-round"] in rounds and "train" in message.metadata.message_type:
            raise FederationError("the scanner is on fire")
        return call_next(message, context)

    return mod


def run(*rounds):
    return federation.run(sites(2), model=linear(), recipe=RECIPE, rounds=3, mods=[fail_in(*rounds)])


@pytest.mark.survives(
    "Every site fails in some rounds of a run", "a warning names these rounds, the sites and their reasons"
)
@pytest.mark.parametrize(("rounds", "last"), [((2,), 3), ((2, 3), 1)])
def test_rounds_without_a_reply_are_warned_of(rounds, last):
    told = rf"{len(rounds)} of 3 rounds had no usable reply, so the model is that of round {last}: .* refused"
    with pytest.warns(UserWarning, match=told):
        found = run(*rounds)
    assert found.missed_rounds == rounds


@pytest.mark.survives(
    "Every site fails in every round", "an error that gives the reason of each site, not of the first only"
)
def test_a_run_without_any_reply_names_every_site():
    with pytest.raises(
        FederationError, match=r"no round had a usable reply: .* was refused .*fire; .* was refused .*fire"
    ):
        run(1, 2, 3)


def test_a_run_that_missed_nothing_says_nothing():
    assert run().missed_rounds == ()
