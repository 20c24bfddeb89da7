"""The Ray engine: the same bits as on the local one, sentences that come back, and no process left behind.

Ray takes long to start. Two tests start and end one of their own; the others, whose runs follow each other,
share one, which the engine finds running and is kept from ending.
"""

import threading
from contextlib import nullcontext

import pandas as pd
import psutil
import pytest
from builders.cohorts import dealt, drawn
from builders.federated import linear, pictures, sites, small_cnn

from hemafl_lib import federation, statistics
from hemafl_lib.errors import FederationError
from hemafl_lib.federation.engines import ray as engine
from hemafl_lib.federation.mods import AddNoise, ClipUpdate
from hemafl_lib.federation.quiet import without_tips
from hemafl_lib.models import AttentionCNN
from hemafl_lib.privacy import RecordPrivacy
from hemafl_lib.secure import SecureAggregation
from hemafl_lib.training import Recipe

pytestmark = pytest.mark.ray

RECIPE = Recipe(learning_rate=0.05, batch_size=8)


# --- what is started is ended ------------------------------------------------------------------------


@pytest.mark.survives(
    "Ray does not start, for example because the machine is too busy",
    "Said in one sentence; no process of Ray's and no thread is left waiting",
)
def test_a_start_that_fails_is_one_sentence_and_leaves_no_process(monkeypatch):
    """The control store and its monitor have come up when the last of Ray's own processes fails."""
    from ray._private.node import Node

    begun = []

    def fail(node):
        begun.extend(psutil.Process().children())
        raise RuntimeError("the raylet\n does not come up")

    before, threads = psutil.Process().children(), set(threading.enumerate())
    monkeypatch.setattr(Node, "start_ray_processes", fail)
    with pytest.raises(FederationError, match=r"^Ray does not start \(the raylet does not come up\); wait"):
        federation.run(sites(1), model=linear(), recipe=RECIPE, rounds=1, engine="simulation")
    started = [process for process in begun if process not in before]
    assert started
    assert not [process.pid for process in started if process.is_running()]
    assert not [thread for thread in set(threading.enumerate()) - threads if not thread.daemon]


def test_ray_agrees_with_local_to_the_bit_and_ends_though_its_first_start_failed(monkeypatch):
    """As on a busy machine, where the raylet does not come up within Ray's own limit."""
    from ray._private.node import Node

    start, failures = Node.start_ray_processes, []

    def fail_once(node):
        if not failures:
            failures.append(node)
            raise RuntimeError("The current node timed out during startup.")
        start(node)

    monkeypatch.setattr(Node, "start_ray_processes", fail_once)
    settings = {"model": small_cnn(), "recipe": RECIPE, "rounds": 2}
    local = federation.run(sites(3, pictures), **settings)
    ray = federation.run(sites(3, pictures), **settings, engine="simulation")
    assert failures
    assert local.hash == ray.hash
    assert local.history.equals(ray.history)
    assert local.bytes_sent == ray.bytes_sent
    assert engine.ray_processes() == []


# --- all that runs on an engine runs on Ray ----------------------------------------------------------


@pytest.fixture(scope="module")
def running():
    """One Ray with one worker for all tests that ask for it."""
    import ray

    with pytest.MonkeyPatch.context() as patch, without_tips(), engine.ray_ended():
        engine.start_ray(1)
        patch.setattr(ray, "shutdown", lambda: None)
        patch.setattr(engine, "ray_ended", nullcontext)
        yield
        patch.undo()


def test_mods_and_what_privacy_spends_are_those_of_the_local_engine(running):
    settings = {
        "model": AttentionCNN(2, width=8, norm="group"),
        "recipe": Recipe(optimiser="sgd", momentum=0.0, weight_decay=0.0, learning_rate=0.2, batch_size=8),
        "trainer": RecordPrivacy(),
        "mods": [AddNoise(deviation=0.01, seed=1), ClipUpdate(limit=0.1)],
        "rounds": 2,
    }
    local = federation.run(sites(2, pictures), **settings)
    ray = federation.run(sites(2, pictures), **settings, engine="simulation")
    assert "epsilon" in set(local.history["metric"])
    assert local.hash == ray.hash
    # Parameters agree to the bit; the last digit of an accountant's sum depends on the library's threads.
    pd.testing.assert_frame_equal(local.history, ray.history, rtol=1e-12)


def test_a_secure_sum_is_the_same_to_the_bit(running):
    settings = {"model": small_cnn(), "recipe": RECIPE, "rounds": 2}
    local, ray = (
        federation.run_over(SecureAggregation(), sites(3, pictures), **settings, engine=name)
        for name in ("local", "simulation")
    )
    assert ray.hash == local.hash


def test_a_statistic_is_the_same_to_the_bit(running):
    cohorts = dealt(drawn(90))
    over = statistics.over_flower(cohorts, cox, engine="simulation", minimum=1)
    pd.testing.assert_frame_equal(over, cox(statistics.hospitals_of(cohorts, 1)), check_exact=True)


def cox(hospitals):
    return statistics.cox(hospitals).table


def test_a_refusal_is_the_sites_sentence(running):
    with pytest.raises(FederationError, match=r"^site 'site 0': .* below minimum=5 patients"):
        statistics.over_flower(dealt(drawn(90)), statistics.cox, engine="simulation")
