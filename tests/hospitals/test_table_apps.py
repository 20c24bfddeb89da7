"""The apps of a federation, without processes: each hospital reads its own data as its mapping says."""

import dataclasses
import json
import logging
import tomllib
from functools import partial

import numpy as np
import pandas as pd
import pytest
from builders import own_data
from flwr.serverapp import ServerApp

from hemafl_lib import clinic, federation, statistics
from hemafl_lib.aggregation import FedAvg
from hemafl_lib.data import own
from hemafl_lib.errors import FederationError, HemaflError, PrivacyError
from hemafl_lib.federation import run_local
from hemafl_lib.federation.exchange import exchanged_names, get_arrays, parameter_hash
from hemafl_lib.hospitals import node, server, settings
from hemafl_lib.hospitals.settings import APPS, Place, read_run_file, run_config
from hemafl_lib.models import load_model
from hemafl_lib.partition import Site, split
from hemafl_lib.secure import SecureAggregation

FEATURES = ("age", "male", "haemoglobin")


@pytest.fixture
def folders(tmp_path):
    """Two hospitals with columns, units and class folders of their own, and a third like the first."""
    own_data.north(tmp_path / "north")
    own_data.south(tmp_path / "south")
    own_data.north(tmp_path / "west", 50)
    return tmp_path


@pytest.fixture
def start(folders):
    """Run an app over the hospitals on the local engine, and return the folder of its outcome."""

    def begin(app, names=("north", "south"), secure=False, node_secure=None, **given):
        out = folders / f"out-{app}"

        def serve(grid, context):
            nodes = list(grid.get_node_ids())
            for node_id, name in zip(nodes, names, strict=True):
                config = grid.context(node_id).node_config
                config["site"], config["data-folder"] = name, str(folders / name)
                config["mapping"] = str(folders / name / "mapping.toml")
                config["secure"] = secure if node_secure is None else node_secure
            place = Place(app, ",".join(names), ",".join(map(str, nodes)), secure)
            context.run_config = run_config(app, place, given, out)
            for node_id in nodes:
                grid.context(node_id).run_config = context.run_config
            server.serve(grid, context)

        app_of_server = ServerApp()
        app_of_server.main()(serve)
        run_local(app_of_server, node.app, len(names))
        return out

    node.own_images.cache_clear()
    node.own_table.cache_clear()
    return begin


def simulated(folders, names=("north", "south")) -> list[Site]:
    """The same hospitals for the simulation: their tables with the same features in the same order."""
    sites = []
    for name in names:
        cohort = own.load_own_table(folders / name, own.read_mapping(folders / name / "mapping.toml"), name)
        places = [cohort.feature_names.index(feature) for feature in FEATURES]
        chosen = dataclasses.replace(cohort, features=cohort.features[:, places], feature_names=FEATURES)
        sites.append(Site(name, chosen, chosen.take([]), chosen.take([])))
    return sites


def frame(out) -> pd.DataFrame:
    return pd.read_csv(out / "result.csv", index_col=0)


# --- statistics ------------------------------------------------------------------------------------


def test_cox_over_nodes_has_the_bits_of_the_simulation(start, folders):
    out = start("cox", features=",".join(FEATURES), grid_months=0.0)
    sites = simulated(folders)
    filled = statistics.standardise(sites, minimum=1).apply(sites, scale=False)
    expected = statistics.cox(filled, minimum=1).table
    assert np.array_equal(frame(out).to_numpy(), expected.to_numpy())
    assert list(frame(out).index) == list(FEATURES)
    report = (out / "report.html").read_text()
    assert "What the server was told" in report
    assert "N1" not in report


def test_kaplan_meier_over_nodes_has_the_bits_of_the_simulation(start, folders):
    out = start("kaplan-meier", grid_months=6.0, last_month=60.0)
    grid = np.arange(1, 11) * 6.0
    expected = statistics.kaplan_meier(simulated(folders), grid=grid, minimum=1).table
    np.testing.assert_array_equal(frame(out).to_numpy(), expected.to_numpy())
    assert json.loads((out / "card.json").read_text())["hospitals"] == ["north", "south"]


def test_logistic_regression_over_nodes_has_the_bits_of_the_simulation(start, folders):
    for name, column, codes in (
        ("north", "Verstorben", "{ ja = 1, nein = 0 }"),
        ("south", "status", "{ dead = 1, alive = 0 }"),
    ):
        text = own_data.MAPPINGS[name]
        head, _, rest = text.partition("[table.outcome]")
        label = f'[table.outcome]\nkind = "label"\nlabel = "{column}"\ncodes = {codes}\n\n[table.features'
        (folders / name / "mapping.toml").write_text(head + label + rest.partition("[table.features")[2])
    out = start("logistic", features=",".join(FEATURES))
    sites = simulated(folders)
    filled = statistics.standardise(sites, minimum=1).apply(sites, scale=False)
    expected = statistics.logistic(filled, minimum=1).table
    assert np.array_equal(frame(out).to_numpy(), expected.to_numpy())


@pytest.mark.survives(
    "A federation with secure aggregation computes a Cox regression on a grid",
    "the estimate is that without it, and the server is told sums over all hospitals only",
)
def test_secure_statistics_equal_the_plain_ones(start):
    names = ("north", "south", "west")
    given = {"features": ",".join(FEATURES), "grid_months": 6.0, "last_month": 60.0}
    plain = start("cox", names, **given)
    expected = frame(plain).to_numpy()
    plain.rename(plain.with_name("plain"))
    secure = start("cox", names, secure=True, **given)
    np.testing.assert_allclose(frame(secure).to_numpy(), expected, rtol=1e-6)
    report = (secure / "report.html").read_text()
    assert "The server has read the sum of the hospitals&#x27; updates or statistics" in report


# --- training --------------------------------------------------------------------------------------


def test_deepsurv_over_nodes_has_the_bits_of_the_simulation(start, folders, caplog):
    given = {"features": ",".join(FEATURES), "rounds": 2, "hidden": "4"}
    with caplog.at_level(logging.INFO, "flwr"):
        out = start("deepsurv", **given)
    run = APPS["deepsurv"](out=str(out), **given)
    sites = [Site(site.name, *split(site.train, seed=0)) for site in simulated(folders)]
    expected = federation.run(
        statistics.standardise(sites, minimum=1).apply(sites),
        model=run.model(),
        aggregator=FedAvg(),
        recipe=run.recipe(),
        rounds=2,
    )
    model = load_model(out / "model.safetensors")
    assert parameter_hash(get_arrays(model, exchanged_names(model))) == expected.hash
    card = json.loads((out / "card.json").read_text())
    assert list(card["features"]) == sorted(FEATURES)
    assert card["parameters"] == expected.hash
    lines = [line for line in caplog.messages if line.startswith("round 2 of 2, evaluate: south, ")]
    assert len(lines) == 1
    assert "c-index" in lines[0]


def test_a_network_of_images_is_one_that_predict_loads(start, folders):
    out = start("images", rounds=1, size=16, width=4)
    saved = clinic.load(out)
    assert saved.card.sites == ("north", "south")
    assert saved.card.classes == ("neutrophil", "lymphocyte", "monocyte", "eosinophil")
    answers = clinic.predict(saved, [folders / "north" / "Lymphozyten"]).table
    assert len(answers) == 12
    assert "What each hospital measured" in (out / "report.html").read_text()


def test_secure_training_gives_the_plain_model_to_fixed_point(start, folders):
    names = ("north", "south", "west")
    given = {"features": ",".join(FEATURES), "rounds": 1, "hidden": "4"}
    models = []
    for secure in (False, True):
        out = start("deepsurv", names, secure=secure, **given)
        models.append(get_arrays(load_model(out / "model.safetensors"), ("head.weight",))["head.weight"])
        out.rename(folders / f"kept-{secure}")
    assert not np.array_equal(models[0], np.zeros_like(models[0]))
    np.testing.assert_allclose(models[0], models[1], rtol=0, atol=1e-6)


def test_a_hospital_that_is_lost_in_a_secure_round_is_not_in_the_mean(start, folders, monkeypatch):
    """It has dealt its shares, so that its masks must be taken away from what the others sent."""
    own_data.south(folders / "east")
    names = ("north", "south", "west", "east")
    masked = SecureAggregation.__call__

    def fall(self, message, context, call_next):
        asked = message.content.get("secure", {}).get("step"), context.node_config["site"]
        if message.metadata.message_type == "train" and asked == ("mask", "east"):
            raise RuntimeError("the hospital's line is cut")
        return masked(self, message, context, call_next)

    monkeypatch.setattr(SecureAggregation, "__call__", fall)
    given = {"features": ",".join(FEATURES), "rounds": 1, "hidden": "4"}
    out = start("deepsurv", names, secure=True, **given)
    run = APPS["deepsurv"](out=str(out), **given)
    sites = [Site(site.name, *split(site.train, seed=0)) for site in simulated(folders, names)]
    expected = federation.run(
        statistics.standardise(sites, minimum=1).apply(sites)[:3],
        model=run.model(),
        recipe=run.recipe(),
        rounds=1,
    )
    found = get_arrays(load_model(out / "model.safetensors"), exchanged_names(run.model()))
    for name, value in found.items():
        np.testing.assert_allclose(value, expected.parameters[name], rtol=0, atol=1e-6)


class Died(Exception):
    """The server's process ends at once."""


@pytest.mark.survives(
    "The server of a secure federation dies in the middle of a training",
    "started again with the same folder, it goes on after its last finished round, to the same model",
)
def test_a_secure_training_goes_on_after_the_server_has_died(start, folders, monkeypatch, caplog):
    names = ("north", "south", "west")
    given = {"features": ",".join(FEATURES), "rounds": 2, "hidden": "4"}
    begin = partial(start, "deepsurv", names, secure=True, **given)
    whole = begin().rename(folders / "whole")
    evaluate = server.WireStrategy.evaluate_round

    def die(self, number, arrays, grid):
        if number == 2:
            raise Died
        evaluate(self, number, arrays, grid)

    with monkeypatch.context() as patch:
        patch.setattr(server.WireStrategy, "evaluate_round", die)
        with pytest.raises(Died):
            begin()
    with caplog.at_level(logging.INFO, "flwr"):
        again = begin()
    assert any("holds 1 of 2 rounds; going on." in line for line in caplog.messages)
    models = [load_model(out / "model.safetensors") for out in (whole, again)]
    hashes = {parameter_hash(get_arrays(model, exchanged_names(model))) for model in models}
    assert len(hashes) == 1


# --- what a hospital refuses -----------------------------------------------------------------------


@pytest.mark.survives(
    "The server of a secure federation asks a hospital for its own, unmasked reply",
    "the hospital refuses: it was told by its bundle to answer in sums only",
)
def test_a_secure_hospital_answers_no_plain_question(start):
    with pytest.raises(FederationError, match="secure aggregation does not give"):
        start("cox", node_secure=True, features="age")


@pytest.mark.survives(
    "A cell of a hospital's table becomes unreadable while a federation runs",
    "the server is told that the data cannot be used; the cell stays in that hospital's log",
)
def test_a_sentence_to_the_server_quotes_no_cell(start, folders, caplog):
    rows = own_data.south_table()
    rows[4][3] = "Schmidt"
    own_data.write_table(folders / "south" / "cohort.csv", rows, ",")
    with pytest.raises(FederationError, match=r"site 'south': .*'hemafl data check' says there") as caught:
        start("cox", features="age")
    assert "Schmidt" not in str(caught.value)
    assert any("Schmidt" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("app", "given", "sentence"),
    [
        ("cox", {"features": "age,ferritin"}, "its table has no feature 'ferritin'"),
        ("logistic", {"features": "age"}, "its table has no outcome of the kind 'label'"),
        ("images", {"classes": "leukaemia", "rounds": 1}, "cannot be used as they are"),
    ],
)
def test_what_a_hospital_has_not_is_said_with_its_name(start, app, given, sentence):
    with pytest.raises(FederationError, match=f"north.*{sentence}"):
        start(app, **given)


def test_small_counts_are_refused_by_the_hospital_that_says_so(start, folders):
    mapping = folders / "south" / "mapping.toml"
    mapping.write_text(mapping.read_text().replace("smallest_count = 1", "smallest_count = 30"))
    with pytest.raises(FederationError, match="site 'south'"):
        start("kaplan-meier", grid_months=12.0)


# --- settings --------------------------------------------------------------------------------------


def test_a_file_of_settings_is_checked(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('features = ["age", "male"]\ngrid-months = 6.0\n')
    assert read_run_file("cox", file) == {"features": "age,male", "grid_months": 6.0}
    place = Place("cox", "north,south", "7,9", False)
    config = run_config("cox", place, read_run_file("cox", file), tmp_path / "out")
    assert (config["names"], config["features"], config["grid-months"]) == ("north,south", "age,male", 6.0)
    assert place.numbers == {7: 0, 9: 1}


@pytest.mark.survives(
    "A slip in the settings of a federation's run: an unknown name, no features, a value that cannot be",
    "one sentence that names the setting, before any hospital is asked",
)
@pytest.mark.parametrize(
    ("app", "text", "sentence"),
    [
        ("cox", "fetures = 'age'", "'fetures' is no setting of cox; it has features"),
        ("cox", "out = 'here'", "'out' is no setting"),
        ("cox", "", "the setting 'features' of cox is missing"),
        ("cox", "features = 'age,age'", "names one twice"),
        ("cox", "features = 'age'\nties = 'exact'", "ties='exact' is unknown"),
        ("deepsurv", "features = 'age'\nhidden = '8,x'", "hidden='8,x' is not allowed"),
        ("deepsurv", "features = 'age'\nhidden = '²'", "hidden='²' is not allowed"),
        ("deepsurv", "features = 'age'\nhidden = '513'", "at most 8, each from 1 to 512"),
        ("deepsurv", f"features = 'age'\nhidden = '{'9' * 5000}'", "is not allowed"),
        ("deepsurv", "features = 'age'\nhidden = '1,1,1,1,1,1,1,1,1'", "at most 8, each from 1 to 512"),
        ("deepsurv", "features = 'age'\nlocal_epochs = 1001", "local_epochs=1001 is not allowed"),
        ("images", "local_epochs = 1000000000000", "local_epochs=1000000000000 is not allowed"),
        ("deepsurv", "features = ''", "name at least one feature"),
        ("images", "rounds = 0", "rounds=0 is not allowed"),
        ("images", "rounds = ", "cannot be read"),
        ("pictures", "", "app='pictures' is unknown; choose one of: images, deepsurv"),
    ],
)
def test_a_slip_in_the_settings_is_one_sentence(tmp_path, app, text, sentence):
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(HemaflError, match=sentence):
        run_config(app, Place(app, "north", "1", False), read_run_file(app, file), tmp_path)


def test_the_largest_network_that_a_hospital_trains():
    run = APPS["deepsurv"](features="age", out="", hidden=", ".join(["512"] * 8), local_epochs=1000)
    assert len(run.model().hidden) == 8


def test_the_defaults_are_those_of_the_long_way(repository):
    described = tomllib.loads((repository / "hospitals" / "pyproject.toml").read_text())
    config = described["tool"]["flwr"]["app"]["config"]
    defaults = {
        field.name.replace("_", "-"): field.default
        for field in dataclasses.fields(settings.RunSettings)
        if field.name != "hospitals"
    }
    assert {name: value for name, value in config.items() if name != "hospitals"} == defaults


def test_an_aggregator_that_needs_single_updates_is_refused_with_secure_aggregation(start):
    with pytest.raises(PrivacyError, match="aggregator"):
        start("deepsurv", ("north", "south", "west"), secure=True, features="age", aggregator="FedMedian")


def test_a_hospital_that_does_not_come_is_named(start, monkeypatch):
    monkeypatch.setattr(server.PolledGrid, "get_node_ids", lambda self: list(self.numbers)[:1])
    with pytest.raises(FederationError, match=r"^south did not come within 0 s"):
        start("cox", features="age", deadline=0.01)
