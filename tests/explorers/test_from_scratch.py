"""The explorer of the first page: its curves are the library's, and what its recording shows."""

import threading

import numpy as np
import pytest

from hemafl_book.explorers import from_scratch as explorer
from hemafl_book.show import results
from hemafl_lib import federation, partition
from hemafl_lib.errors import Stopped
from hemafl_lib.training import Recipe


@pytest.fixture(scope="module")
def found():
    return explorer.SWEEP.read(results.get("explorer-federated-from-scratch"))


def last(found, *setting):
    return explorer.last(found[setting])


def test_its_curves_are_those_of_the_library():
    train, test = explorer.split_table()
    sites = partition.dirichlet(train, sites=3, alpha=0.3, seed=4, validation=0, test=0)
    run = federation.run(
        sites,
        model=explorer.new_model(4),
        recipe=Recipe(**explorer.SGD, local_epochs=1),
        rounds=explorer.ROUNDS,
        seed=4,
        evaluate=False,
        monitor={"test": test},
        progress=False,
    )
    here = explorer.compare_ways(3, 0.3, 1, seed=4)["federated"]
    np.testing.assert_allclose(here, run.curve("balanced-accuracy", "monitor")["test"], atol=0.005)


def test_the_recording_has_ten_seeds_and_bands(found):
    assert len(results.get("explorer-federated-from-scratch").seeds) >= 10
    for curves in found.values():
        assert set(curves["way"]) == set(explorer.ARMS)
        assert sorted(set(curves["round"])) == list(range(explorer.ROUNDS + 1))
        assert (curves["low"] <= curves["high"]).all()
        assert curves[["mean", "low", "high"]].stack().between(0, 1).all()


def test_hospitals_that_are_alike_gain_little_until_there_are_many(found):
    uneven, three, eight = (last(found, *setting) for setting in ((3, 0.3, 5), (3, 10.0, 5), (8, 10.0, 5)))
    gain = three["federated"] - three["isolated"]
    assert 0.01 < gain < 0.1 < uneven["federated"] - uneven["isolated"]
    assert eight["federated"] - eight["isolated"] > gain


def test_skew_costs_a_hospital_alone_most(found):
    alike, skewed = (last(found, 3, alpha, 5) for alpha in (10.0, 0.1))
    assert skewed["isolated"] < alike["isolated"] - 0.25
    assert alike["federated"] - 0.02 > skewed["federated"] > skewed["isolated"] + 0.2


def test_it_ends_when_it_is_outdated():
    stop, seen = threading.Event(), []

    def outdate(done: int) -> None:
        seen.append(done)
        stop.set()

    with pytest.raises(Stopped):
        explorer.explore(2, 10.0, 1, report=outdate, stop=stop)
    assert seen == [1]
