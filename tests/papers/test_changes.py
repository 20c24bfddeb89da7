"""What a user changes in a paper's protocol has its effect and is named, or is refused in one sentence."""

import json
from dataclasses import replace

import pytest

from hemafl_book import papers, results
from hemafl_book.papers import PAPERS, blood_morphology, dealing, running
from hemafl_book.papers.changes import OPTIONS, UNCHANGED, Changes
from hemafl_book.papers.dealing import Deal
from hemafl_book.papers.where import Where
from hemafl_lib.aggregation import AGGREGATORS
from hemafl_lib.data import smear
from hemafl_lib.errors import HemaflError
from hemafl_lib.partition import SCHEMES

GIVEN = {
    "aggregator": "FedMedian",
    "clients": 4,
    "alpha": 0.7,
    "scheme": "iid",
    "rounds": 3,
    "local_epochs": 2,
    "seed": 9,
    "study": ("group-norm",),
}
"""A change of every kind that any paper takes; models and cohorts are each paper's own."""


def change(paper, name: str) -> Changes:
    """A change of one kind that a paper takes."""
    own = {
        "model": paper.OFFER.models[-1] if paper.OFFER.models else None,
        "data": paper.OFFER.data[-1],
    }
    return Changes(**{name: GIVEN.get(name, own.get(name))})


def described(paper, preset: str, changes: Changes) -> dict:
    source = paper.OFFER.sources[0] if changes.data else paper.OFFER.sources[-1]
    return json.loads(json.dumps(paper.protocol(preset, source, changes).describe()))


TAKEN = [(name, option) for name in PAPERS for option in papers.find(name).OFFER.takes]
REFUSED = [(name, option) for name in PAPERS for option in OPTIONS if (name, option) not in TAKEN]


@pytest.mark.parametrize("preset", ["quick", "paper"])
@pytest.mark.parametrize(("name", "option"), TAKEN)
def test_a_change_is_named_in_the_protocol_and_changes_its_hash(name, option, preset):
    paper = papers.find(name)
    changes = change(paper, option)
    plain, changed = described(paper, preset, UNCHANGED), described(paper, preset, changes)
    assert "changes" not in plain
    assert changed["changes"] == changes.as_dict()
    assert results.protocol_hash(plain) != results.protocol_hash(changed)


@pytest.mark.parametrize(("name", "option"), REFUSED)
def test_what_a_paper_does_not_take_it_refuses_and_says_what_it_takes(name, option):
    paper = papers.find(name)
    given = replace(change(paper, option), **{option: GIVEN.get(option) or "any"})
    with pytest.raises(HemaflError) as refused:
        paper.protocol("quick", paper.OFFER.sources[-1], given)
    for taken in paper.OFFER.takes:
        assert f"--{taken.replace('_', '-')}" in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        Changes(aggregator="Crumb"),
        Changes(model="resnet1000"),
        Changes(scheme="by moonlight"),
        Changes(data="nowhere"),
        Changes(data="ipssm"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(changes):
    with pytest.raises(HemaflError, match=r"is unknown; choose one of .+,"):
        blood_morphology.protocol("quick", "real", changes)


@pytest.mark.parametrize(
    "changes",
    [
        Changes(clients=0),
        Changes(rounds=0),
        Changes(alpha=0.0),
        Changes(alpha=float("inf")),
        Changes(alpha=float("nan")),
        Changes(seed=-1),
        Changes(alpha=0.3, scheme="iid"),
        Changes(clients=3, scheme="natural"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(changes):
    with pytest.raises(HemaflError, match=r"--(clients|rounds|alpha|seed)"):
        blood_morphology.protocol("quick", "smear", changes)


@pytest.mark.parametrize("name", ["blood-morphology", "attention-cnn", "all-transfer", "mds-survival"])
@pytest.mark.parametrize("preset", ["quick", "paper"])
@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_the_named_aggregator_stands_beside_isolated_and_centralised_training_alone(name, preset, aggregator):
    paper = papers.find(name)
    asked = paper.protocol(preset, paper.OFFER.sources[-1], Changes(aggregator=aggregator))
    federated = [arm for study in asked.studies for arm in study.arms if arm.kind == "federated"]
    assert {arm.aggregator for arm in federated} == {AGGREGATORS[aggregator]()}
    assert aggregator in ("FedAvg", "FedAvgM") or not any("FedAvg" in arm.name for arm in federated)
    kinds = {arm.kind for study in asked.studies for arm in study.arms}
    assert kinds == {"isolated", "federated", "centralised"}


@pytest.mark.parametrize("name", PAPERS)
def test_seed_rounds_and_local_epochs_are_those_that_were_asked_for(name):
    paper = papers.find(name)
    changes = Changes(seed=7, rounds=3, local_epochs=2)
    asked = paper.protocol("quick", paper.OFFER.sources[-1], changes)
    assert asked.seeds == (7,)
    text = json.dumps(asked.describe())
    assert '"rounds": 3' in text
    assert set(_values(asked.describe(), "local_epochs")) == {2}


def _values(value: object, key: str) -> list:
    """Every value that stands under a key, at any depth."""
    if isinstance(value, dict):
        own = [value[key]] if key in value else []
        return own + [found for part in value.values() for found in _values(part, key)]
    if isinstance(value, (list, tuple)):
        return [found for part in value for found in _values(part, key)]
    return []


# How the clients are dealt


@pytest.mark.parametrize(
    ("own", "asked", "expected"),
    [
        (Deal("natural", 3), {}, "natural clients"),
        (Deal("natural", 3), {"clients": 5}, "5 clients, iid"),
        (Deal("natural", 3), {"alpha": 0.3}, "3 clients, dirichlet, alpha 0.3"),
        (Deal("natural", 3), {"clients": 5, "alpha": 0.3}, "5 clients, dirichlet, alpha 0.3"),
        (Deal("dirichlet", 3, 0.5), {"clients": 5}, "5 clients, dirichlet, alpha 0.5"),
        (Deal("dirichlet", 3, 0.5), {"scheme": "iid"}, "3 clients, iid"),
        (dealing.quantity((6, 3, 1)), {"clients": 4}, "4 clients, iid"),
        (Deal("iid", 3), {"scheme": "quantity"}, "3 clients, quantity"),
        (Deal("iid", 3), {"scheme": "pathological", "clients": 4}, "4 clients, pathological"),
    ],
)
def test_a_deal_is_the_papers_own_with_what_is_asked_for(own, asked, expected):
    deal = dealing.change(own, **{"scheme": None, "clients": None, "alpha": None, **asked})
    assert str(deal) == expected
    cohort = smear.simulate(240, size=16, sites=("north", "south", "east"), masks=False)
    sites = deal.sites(cohort, seed=0)
    assert len(sites) == deal.clients
    assert sum(len(part) for site in sites for part in (site.train, site.validation, site.test)) == 240


def test_the_clients_cells_are_dealt_anew_and_the_unseen_hospitals_stay_unseen():
    asked = blood_morphology.protocol("quick", "smear", Changes(clients=4, alpha=1.0))
    study = asked.studies[0]
    cells = blood_morphology.hospitals(replace(asked, size=16, cells=60))
    sites, judged = blood_morphology.client_sites(cells, study, seed=0)
    assert [site.name for site in sites] == [f"site-{number}" for number in (1, 2, 3, 4)]
    known = {name for site in sites for part in (site.train, site.validation) for name in part.site}
    assert known == set(blood_morphology.DRAWN_CLIENTS)
    assert set(judged) == {*(site.name for site in sites), "joint", *blood_morphology.DRAWN_UNSEEN}


NAMES = [name for name in PAPERS if "scheme" in papers.find(name).OFFER.takes]


@pytest.mark.parametrize("name", NAMES)
def test_a_new_scheme_that_takes_alpha_is_taken_as_any_other(name, monkeypatch):
    slanted = replace(SCHEMES["dirichlet"], takes=("sites", "alpha"))
    monkeypatch.setitem(SCHEMES, "slanted", slanted)
    paper = papers.find(name)
    asked = paper.protocol("quick", paper.OFFER.sources[-1], Changes(scheme="slanted", clients=4, alpha=0.2))
    deals = _values(asked.describe(), "deal")
    assert deals
    assert all(deal == {"scheme": "slanted", "sites": 4, "alpha": 0.2} for deal in deals)
    assert str(dealing.change(Deal("slanted", 3), None, 4, None)) == "4 clients, slanted, alpha 0.5"
    with pytest.raises(HemaflError, match="'dirichlet', 'slanted'; leave it out with 'iid'"):
        paper.protocol("quick", paper.OFFER.sources[-1], Changes(scheme="iid", alpha=0.2))


@pytest.mark.parametrize("preset", ["quick", "paper"])
@pytest.mark.parametrize("name", NAMES)
def test_another_deal_stands_in_the_protocol_with_all_settings_of_its_scheme(name, preset):
    paper = papers.find(name)
    source = paper.OFFER.sources[-1]
    for scheme, setting in (("pathological", ("classes_per_site", 2)), ("quantity", ("proportions", [1.0]))):
        asked = paper.protocol(preset, source, Changes(scheme=scheme, clients=1))
        described = json.loads(json.dumps(asked.describe()))
        deals = _values(described, "deal")
        assert deals
        assert all(deal["scheme"] == scheme and deal[setting[0]] == setting[1] for deal in deals)
    assert not _values(paper.protocol(preset, source).describe(), "deal")


# Which data


def test_a_cohort_that_is_one_of_the_papers_sources_changes_nothing():
    offer = papers.find("attention-cnn").OFFER
    assert offer.source(None, Changes(data="smear")) == ("smear", UNCHANGED)
    assert offer.source(None, Changes(data="taleqani")) == ("real", UNCHANGED)
    assert offer.source(None, Changes(data="tecom")) == ("real", Changes(data="tecom"))
    assert offer.source(None, UNCHANGED) == ("smear", UNCHANGED)


@pytest.mark.parametrize("name", ["taleqani", "taleqani-v2", "sickle-cell", "flchain"])
def test_only_cohorts_with_the_classes_of_the_hospitals_are_offered_to_train_on(name):
    with pytest.raises(HemaflError, match="choose one of barcelona, "):
        blood_morphology.protocol("quick", "real", Changes(data=name))


def test_only_cohorts_with_survival_are_offered_where_survival_is_predicted():
    with pytest.raises(HemaflError, match="choose one of ipssm, "):
        papers.find("mds-survival").protocol("quick", "real", Changes(data="sickle-cell"))


# The result


@pytest.fixture
def stored(tmp_path, repository):
    """A copy of the frozen result of chapter 4's second paper."""
    path = tmp_path / "scd-infarct.json"
    path.write_bytes((repository / "book" / "results" / "scd-infarct.json").read_bytes())
    return path


@pytest.mark.parametrize(
    ("name", "preset", "changes"),
    [
        ("scd-infarct", "quick", Changes(rounds=1)),
        ("scd-infarct", "quick", UNCHANGED),
        ("mds-survival", "paper", Changes(data="flchain")),
    ],
)
def test_the_result_of_another_protocol_is_never_replaced(name, preset, changes, stored):
    before = stored.read_bytes()
    with pytest.raises(
        HemaflError, match=r"preset 'paper', source 'simulated', without changes.*another file"
    ):
        running.run_and_report(name, preset, changes, Where(), out=stored, say=print)
    assert stored.read_bytes() == before


@pytest.mark.parametrize("name", [name for name in PAPERS if papers.find(name).OFFER.cohorts])
def test_a_run_on_what_needs_no_files_never_replaces_the_real_result(name, tmp_path, repository):
    paper, out = papers.find(name), tmp_path / "out.json"
    out.write_bytes((repository / "book" / "results" / f"{name}.json").read_bytes())
    before = out.read_bytes()
    embedded = next(cohort for cohort, source in paper.OFFER.cohorts.items() if source != "real")
    with pytest.raises(HemaflError, match="preset 'paper', source 'real'"):
        running.run_and_report(name, "paper", Changes(data=embedded), Where(), out=out, say=print)
    assert out.read_bytes() == before


def test_a_result_may_be_renewed_and_one_of_other_data_is_kept(stored, monkeypatch):
    monkeypatch.setattr(papers.find("scd-infarct"), "FOLDS", 2)
    monkeypatch.setattr(papers.find("scd-infarct"), "ROUNDS", 1)
    said = []
    quick = ("scd-infarct", "quick", UNCHANGED, Where(progress=False))
    running.run_and_report(*quick, out=stored, say=said.append, renew=True)
    renewed = results.load(stored)
    assert renewed.protocol["preset"] == "quick"
    running.run_and_report(*quick, out=stored, say=said.append)
    content = json.loads(stored.read_text()) | {"data": [{"name": "sickle-cell", "checksum": "00"}]}
    stored.write_text(json.dumps(content))
    running.run_and_report(*quick, out=stored, say=said.append)
    assert results.load(stored).data == content["data"]
    beside = stored.with_name("scd-infarct-other-data.json")
    assert said[-1].endswith(f"{beside}.")
    assert results.load(beside).tables == renewed.tables


def test_a_folder_of_data_that_does_not_exist_is_refused_where_nothing_is_read_of_it(tmp_path):
    with pytest.raises(HemaflError, match="nowhere does not exist"):
        running.run_and_report(
            "scd-infarct", "quick", UNCHANGED, Where(root=tmp_path / "nowhere"), out=None, say=print
        )


def test_a_changed_result_names_its_changes_and_the_commit(tmp_path):
    out, said = tmp_path / "out.json", []
    changes = Changes(aggregator="FedMedian", rounds=1, local_epochs=1)
    running.run_and_report("scd-infarct", "quick", changes, Where(progress=False), out=out, say=said.append)
    frozen = results.load(out)
    assert frozen.changes == {"aggregator": "FedMedian", "rounds": 1, "local_epochs": 1}
    assert frozen.commit == results.commit()
    assert frozen.protocol["changes"] == frozen.changes
    assert [line for line in said if "aggregator FedMedian, rounds 1, local epochs 1" in line]
    assert set(frozen.table("one cohort: scores")["arm"]) >= {"FedMedian", "centralised", "isolated: site-1"}
    running.run_and_report("scd-infarct", "quick", changes, Where(progress=False), out=out, say=said.append)
