"""Client mods: they stand around every site's app, on every engine, and a checkpoint knows them."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from builders.federated import linear, pictures, sites, small_cnn
from flwr.app import Context, Message

from hemafl_lib import federation
from hemafl_lib.errors import FederationError
from hemafl_lib.federation.client import Job
from hemafl_lib.federation.mods import (
    AddNoise,
    ClipUpdate,
    ScaleUpdate,
    UpdateMod,
    check_mods,
    clip_update,
)
from hemafl_lib.federation.site_app import load_app, store_app
from hemafl_lib.training import Recipe

RECIPE = Recipe(learning_rate=0.05, batch_size=8)
SETTINGS = {"recipe": RECIPE, "rounds": 2, "evaluate": False}


def train(mods=(), count=3, **changes):
    return federation.run(sites(count), model=linear(), mods=mods, **{**SETTINGS, **changes})


def moved(run, start):
    """The change of the floating-point parameters as one vector."""
    return np.concatenate(
        [
            (run.parameters[name] - value).ravel()
            for name, value in federation.get_arrays(start, federation.exchanged_names(start)).items()
            if np.issubdtype(value.dtype, np.floating)
        ]
    )


@dataclass(frozen=True)
class Order:
    """Notes when a message passes on its way in and out."""

    name: str
    seen: list = field(default_factory=list)

    def __call__(self, message: Message, context: Context, call_next) -> Message:
        self.seen.append(f"{self.name} in")
        reply = call_next(message, context)
        self.seen.append(f"{self.name} out")
        return reply


def test_the_first_mod_is_the_outermost():
    seen = []
    train([Order("first", seen), Order("second", seen)], count=1, rounds=1)
    assert seen == ["first in", "second in", "second out", "first out"]


def test_any_function_is_a_mod():
    kinds = []

    def note(message, context, call_next):
        kinds.append((message.metadata.message_type, context.node_config["partition-id"]))
        return call_next(message, context)

    train([note], rounds=1, evaluate=True, workers=1)
    assert kinds == [(kind, site) for kind in ("train", "evaluate") for site in range(3)]


@pytest.mark.parametrize("mods", [[], [UpdateMod()], [ClipUpdate(limit=1e9)], [ScaleUpdate(factor=1.0)]])
def test_mods_that_change_nothing_change_no_bit(mods):
    """Also with batch norm's counters, which are no part of an update."""
    plain = federation.run(sites(2, pictures), model=small_cnn(), **SETTINGS)
    modded = federation.run(sites(2, pictures), model=small_cnn(), mods=mods, **SETTINGS)
    assert modded.hash == plain.hash
    assert modded.history.equals(plain.history)


def test_clipping_bounds_what_a_site_moves():
    start = linear()
    free, clipped = (train(mods, count=1, rounds=1) for mods in ([], [ClipUpdate(limit=0.01)]))
    assert np.linalg.norm(moved(free, start)) > 0.05
    assert np.linalg.norm(moved(clipped, start)) == pytest.approx(0.01, rel=1e-4)
    direction = [moved(run, start) / np.linalg.norm(moved(run, start)) for run in (free, clipped)]
    np.testing.assert_allclose(*direction, atol=1e-4)


def test_clip_update_leaves_short_ones_and_zeros():
    update = {"w": np.array([3.0, 0.0]), "b": np.array([4.0])}
    assert clip_update(update, 10.0)["b"] == 4.0
    assert clip_update(update, 1.0)["w"].tolist() == pytest.approx([0.6, 0.0])
    assert clip_update({"w": np.zeros(2)}, 1.0)["w"].tolist() == [0.0, 0.0]


def test_noise_has_the_deviation_asked_for_and_is_everybodys_own():
    mod = AddNoise(deviation=0.5, seed=3)
    zeros = {"w": np.zeros(20_000)}
    drawn = [mod.change(zeros, site, number)["w"] for site, number in ((0, 1), (1, 1), (0, 2))]
    assert [values.std() for values in drawn] == pytest.approx([0.5] * 3, rel=0.03)
    assert not np.isclose(np.corrcoef(drawn), np.eye(3), atol=0.03).mean() < 1
    assert np.array_equal(mod.change(zeros, 0, 1)["w"], drawn[0])
    assert not np.array_equal(replace(mod, seed=4).change(zeros, 0, 1)["w"], drawn[0])


def test_noise_is_added_to_what_was_clipped():
    start = linear()
    run = train([AddNoise(deviation=1e-6), ClipUpdate(limit=0.01)], count=1, rounds=1)
    assert np.linalg.norm(moved(run, start)) == pytest.approx(0.01, rel=1e-2)


def test_a_mod_works_on_the_sites_it_names():
    """One that turns against the others moves the mean; the others send what they sent before."""
    sent = {}

    def note(message, context, call_next):
        reply = call_next(message, context)
        sent[context.node_config["partition-id"]] = federation.from_record(reply.content["arrays"])
        return reply

    train([note], rounds=1)
    honest = dict(sent)
    train([note, ScaleUpdate(factor=-10.0, sites=(1,))], rounds=1)
    start = federation.get_arrays(linear(), honest[1])
    for number in (0, 2):
        assert all(np.array_equal(sent[number][name], honest[number][name]) for name in start)
    step = honest[1]["1.weight"] - start["1.weight"]
    np.testing.assert_allclose(sent[1]["1.weight"] - start["1.weight"], -10 * step, rtol=1e-4, atol=1e-6)


@pytest.mark.survives("A mod fails at one hospital", "that reply is refused with the reason")
def test_a_mod_that_fails_is_a_reply_that_is_refused():
    def fail(message, context, call_next):
        if context.node_config["partition-id"] == 1:
            raise RuntimeError("the mod is broken")
        return call_next(message, context)

    run = train([fail], rounds=1)
    assert run.refused["site"].tolist() == ["site 1"]
    assert "the mod is broken" in run.refused["reason"][0]


@pytest.mark.survives(
    "A mod names a hospital that does not exist, or is no mod", "it is refused before the first message"
)
@pytest.mark.parametrize(
    ("mods", "told"),
    [
        (ScaleUpdate(factor=-1.0), "is not a list"),
        (None, "is not a list"),
        ([None], "mods holds None"),
        (["x"], "mods holds 'x'"),
        ([lambda message, context: message], "cannot be called with"),
        ([ClipUpdate], "cannot be called with"),
        ([AddNoise(deviation=0.1, sites=(99,))], "AddNoise names site 99.*numbers from 0 to 2"),
        ([UpdateMod(sites=(0, 3))], "UpdateMod names site 3"),
    ],
)
@pytest.mark.parametrize("engine", ["local", "simulation", "deployment"])
def test_mods_that_cannot_work_are_refused_before_the_start(mods, told, engine):
    with pytest.raises(FederationError, match=told):
        train(mods, engine=engine)


def test_a_mod_for_no_site_and_one_that_does_not_tell_its_arguments_are_mods():
    check_mods([ClipUpdate(sites=()), ClipUpdate(sites=(0, 1)), type("Silent", (), {"__call__": max})()], 2)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda message: None, "the client app returned NoneType, not a Message"),
        (lambda message: "done", "the client app returned str, not a Message"),
        (lambda message: message, "no reply to the one it got"),
    ],
)
def test_what_is_no_reply_is_a_failure_of_that_client(answer, told):
    def forget(message, context, call_next):
        reply = call_next(message, context)
        return answer(message) if context.node_config["partition-id"] == 1 else reply

    run = train([forget], rounds=1)
    assert run.refused["site"].tolist() == ["site 1"]
    assert told in run.refused["reason"][0]


@pytest.mark.parametrize("mod", [ClipUpdate(limit=0.01), AddNoise()])
@pytest.mark.parametrize("record", ["arrays", "codes"])
def test_an_update_that_is_coded_already_is_refused_and_does_not_pass_unchanged(mod, record):
    def code(message, context, call_next):
        reply = call_next(message, context)
        del reply.content["arrays"]
        reply.content[record] = federation.to_record({"codes": np.zeros(3)})
        return reply

    with pytest.raises(FederationError, match="holds other arrays than the message"):
        train([mod, code], rounds=1)


def test_a_reply_without_arrays_passes():
    """So does a site say that its privacy is spent."""

    def keep(message, context, call_next):
        reply = call_next(message, context)
        del reply.content["arrays"]
        return reply

    with pytest.raises(FederationError) as told:
        train([ClipUpdate(limit=0.01), keep], rounds=1)
    assert "holds other arrays" not in str(told.value)


def test_isolated_and_centralised_take_mods():
    mods = [ClipUpdate(limit=0.01)]
    alone = federation.isolated(sites(2), model=linear(), mods=mods, **SETTINGS)
    first = federation.run(sites(2)[:1], model=linear(), mods=mods, **SETTINGS)
    assert alone["site 0"].hash == first.hash
    together = federation.centralised(sites(2), model=linear(), mods=mods, **SETTINGS)
    assert np.linalg.norm(moved(together, linear())) <= 0.02 * (1 + 1e-4)


# --- as values ---------------------------------------------------------------------------------------


def test_mods_travel_with_the_job(tmp_path):
    job = Job(linear(), RECIPE, 0, mods=(AddNoise(deviation=0.01, sites=(0, 2)), ClipUpdate(limit=2.0)))
    store_app(job, tmp_path)
    assert load_app(tmp_path).mods == job.mods


def a_function(message, context, call_next):
    return call_next(message, context)


@pytest.mark.parametrize("mod", [a_function, Order("not of the library")])
def test_the_deployment_engine_refuses_what_no_node_could_read(mod, tmp_path):
    with pytest.raises(FederationError, match=r"mods\.0.*another program"):
        store_app(Job(linear(), RECIPE, 0, mods=(mod,)), tmp_path)


def test_a_checkpoint_refuses_a_mod_that_it_could_not_know_again(tmp_path):
    with pytest.raises(FederationError, match="frozen dataclass"):
        train([a_function], checkpoint=tmp_path / "run.safetensors")


def test_a_checkpoint_knows_its_mods(tmp_path):
    path = tmp_path / "run.safetensors"
    clipped = train([ClipUpdate(limit=0.1)], checkpoint=path)
    again = train([ClipUpdate(limit=0.1)], checkpoint=path)
    assert again.hash == clipped.hash
    for others in ([], [ClipUpdate(limit=0.2)], [ScaleUpdate(factor=0.1)]):
        with pytest.raises(FederationError, match="another run"):
            train(others, checkpoint=path)


def test_a_checkpoint_with_mods_needs_the_local_engine(tmp_path):
    with pytest.raises(FederationError, match="engine='local'"):
        train([ClipUpdate()], checkpoint=tmp_path / "run.safetensors", engine="simulation")


@pytest.mark.parametrize("make", [lambda: ClipUpdate(limit=0.0), lambda: AddNoise(deviation=-1.0)])
def test_settings_out_of_range_are_one_sentence(make):
    with pytest.raises(FederationError, match="must"):
        make()
