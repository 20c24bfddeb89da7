"""What a user may rely on when a cohort is cut into sites."""

import inspect
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, wasserstein_distance

from hemafl_lib import data, partition
from hemafl_lib.data.cohort import ImageCohort, LabelledCohort, Provenance, TableCohort, same
from hemafl_lib.errors import PartitionError

PROVENANCE = Provenance("test", "made here.", "none", simulated=True, checksum="0" * 64)


def labelled(labels, *, patients=None, hospitals=None):
    """A cohort whose provenance can be followed: the images hold the row number."""
    labels = np.asarray(labels, dtype=np.int64)
    rows = np.arange(len(labels))
    pixels = np.stack([rows // 256, rows % 256, np.zeros_like(rows)], axis=1).astype(np.uint8)
    return ImageCohort(
        images=torch.from_numpy(pixels).reshape(-1, 3, 1, 1),
        labels=torch.from_numpy(labels),
        classes=("a", "b", "c", "d"),
        site=np.array(["north"] * len(rows) if hospitals is None else hospitals),
        patient=np.array([f"p{row}" for row in (rows if patients is None else patients)]),
        provenance=PROVENANCE,
    )


def drawn(rows, *, seed=0, patients=None, hospitals=1):
    """A random cohort of four unequal classes."""
    generator = np.random.default_rng(seed)
    return labelled(
        generator.choice(4, rows, p=[0.4, 0.3, 0.2, 0.1]),
        patients=None if patients is None else generator.integers(0, patients, rows),
        hospitals=np.array([f"h{k}" for k in generator.integers(0, hospitals, rows)]),
    )


def row_numbers(cohort):
    high, low, _ = cohort.images.reshape(-1, 3).T.long()
    return (high * 256 + low).tolist()


def everything(sites):
    return [
        row
        for site in sites
        for part in (site.train, site.validation, site.test)
        for row in row_numbers(part)
    ]


CUTS = {
    "natural": lambda cohort, seed, **options: partition.natural(cohort, seed=seed, **options),
    "iid": lambda cohort, seed, **options: partition.iid(cohort, sites=3, seed=seed, **options),
    "quantity": lambda cohort, seed, **options: partition.quantity(
        cohort, proportions=partition.power_law(3, 1.0), seed=seed, **options
    ),
    "dirichlet": lambda cohort, seed, **options: partition.dirichlet(
        cohort, sites=3, alpha=0.5, seed=seed, **options
    ),
    "pathological": lambda cohort, seed, **options: partition.pathological(
        cohort, sites=3, classes_per_site=2, seed=seed, **options
    ),
}


@pytest.mark.parametrize("cut", CUTS)
@settings(max_examples=15, deadline=None)
@given(rows=st.integers(120, 400), seed=st.integers(0, 10**6))
def test_every_row_lands_in_one_part_of_one_site(cut, rows, seed):
    cohort = drawn(rows, seed=seed, hospitals=3)
    sites = CUTS[cut](cohort, seed)
    assert sorted(everything(sites)) == list(range(rows))
    assert len(sites) == 3
    assert all(len(site) > 0 and len(site.validation) > 0 and len(site.test) > 0 for site in sites)


@pytest.mark.parametrize("cut", CUTS)
def test_a_seed_gives_the_same_sites_and_another_seed_others(cut):
    cohort = drawn(300, hospitals=3)
    first, again, other = (CUTS[cut](cohort, seed) for seed in (1, 1, 2))
    assert all(same(a.train, b.train) and same(a.test, b.test) for a, b in zip(first, again, strict=True))
    assert everything(first) != everything(other)


@pytest.mark.parametrize("cut", CUTS)
def test_no_patient_is_on_two_sides_even_of_different_sites(cut):
    cohort = drawn(600, patients=60, hospitals=3)
    sites = CUTS[cut](cohort, 0)
    sides = [
        {patient for site in sites for patient in getattr(site, part).patient.tolist()}
        for part in partition.PARTS
    ]
    assert sum(map(len, sides)) == len(set.union(*sides))


@pytest.mark.parametrize("cut", ["iid", "quantity", "dirichlet", "pathological"])
def test_whole_patients_go_to_one_site_on_request(cut):
    generator = np.random.default_rng(0)
    patients = generator.integers(0, 200, 1000)
    cohort = labelled(patients % 4, patients=patients)
    sites = CUTS[cut](cohort, 0, by="patient")
    owners = [set(part.patient) for site in sites for part in (site.train, site.validation, site.test)]
    assert sum(len(owner) for owner in owners) == len(set(patients.tolist()))


@pytest.mark.parametrize("split_by", ["row", "patient"])
@pytest.mark.parametrize("cut", CUTS)
def test_sites_split_within_the_cohort_have_the_sides_of_split(cut, split_by):
    cohort = drawn(600, patients=150, hospitals=3)
    shares = {"validation": 0.1, "test": 0.25}
    sides = partition.split(cohort, by=split_by, seed=4, **shares)
    sites = CUTS[cut](cohort, 4, split_by=split_by, split_within="cohort", **shares)
    for part, side in zip(partition.PARTS, sides, strict=True):
        rows = [row for site in sites for row in row_numbers(getattr(site, part))]
        assert sorted(rows) == sorted(row_numbers(side))


def test_three_and_five_sites_split_within_the_cohort_share_one_test_set():
    cohort = drawn(600)

    def tested(sites, split_within):
        cut = partition.dirichlet(cohort, sites=sites, alpha=1.0, seed=0, split_within=split_within)
        return sorted(row for site in cut for row in row_numbers(site.test))

    assert tested(3, "cohort") == tested(5, "cohort")
    assert tested(3, "site") != tested(5, "site")


@pytest.mark.parametrize("cut", CUTS)
def test_where_the_sides_are_met_does_not_change_which_rows_a_site_has(cut):
    cohort = drawn(600, hospitals=3)
    pairs = zip(CUTS[cut](cohort, 0), CUTS[cut](cohort, 0, split_within="cohort"), strict=True)
    assert all(sorted(everything([one])) == sorted(everything([other])) for one, other in pairs)


# split


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=20, max_size=200),
    validation=st.floats(0.1, 0.4),
    test=st.floats(0.1, 0.4),
    seed=st.integers(0, 10**6),
)
def test_split_meets_the_shares_of_every_class_within_a_row_or_so(labels, validation, test, seed):
    cohort = labelled(labels)
    parts = partition.split(cohort, validation=validation, test=test, by="row", seed=seed)
    shares = np.array([1 - validation - test, validation, test])
    counts = np.array([part.counts() for part in parts])
    assert sorted(row for part in parts for row in row_numbers(part)) == list(range(len(labels)))
    assert np.abs(counts - shares[:, None] * cohort.counts()).max() < 2
    assert np.abs(counts.sum(axis=1) - shares * len(cohort)).max() < 2


def test_split_keeps_patients_whole_and_stays_near_the_shares():
    cohort = drawn(2000, patients=80)
    parts = partition.split(cohort, seed=3)
    patients = [set(part.patient) for part in parts]
    assert sum(map(len, patients)) == len(set.union(*patients))
    assert [len(part) / 2000 for part in parts] == pytest.approx([0.65, 0.15, 0.2], abs=0.02)


def test_split_by_row_ignores_patients():
    cohort = drawn(400, patients=5)
    train, _, test = partition.split(cohort, by="row", seed=0)
    assert set(train.patient) & set(test.patient)


def test_where_every_row_is_its_own_patient_both_units_give_the_same_split():
    cohort = drawn(500)
    by_patient, by_row = (partition.split(cohort, by=by, seed=0) for by in ("patient", "row"))
    assert all(same(one, other) for one, other in zip(by_patient, by_row, strict=True))


def test_a_share_of_zero_gives_an_empty_cohort():
    train, validation, test = partition.split(drawn(50), validation=0, test=0, seed=0)
    assert (len(train), len(validation), len(test)) == (50, 0, 0)


def test_survival_tables_are_split_with_equal_shares_of_events():
    event = torch.arange(200) % 4 == 0
    table = TableCohort(
        features=torch.zeros(200, 2),
        feature_names=("x", "y"),
        time=torch.ones(200),
        event=event,
        site=np.repeat(["a", "b"], 100),
        patient=np.arange(200),
        provenance=PROVENANCE,
    )
    for site in partition.natural(table, seed=0):
        assert site.train.event.float().mean().item() == pytest.approx(0.25, abs=0.02)
        assert site.test.event.float().mean().item() == pytest.approx(0.25, abs=0.06)


# The kinds of skew


def test_natural_sites_are_the_hospitals():
    cohort = drawn(300, hospitals=4)
    sites = partition.natural(cohort, seed=0)
    assert [site.name for site in sites] == ["h0", "h1", "h2", "h3"]
    assert all(set(site.train.site) == {site.name} for site in sites)


def test_iid_sites_have_equal_sizes_and_class_shares():
    cohort = drawn(1000)
    sites = partition.iid(cohort, sites=10, seed=0, validation=0, test=0)
    counts = np.array([site.train.counts() for site in sites])
    assert np.abs(counts.sum(axis=1) - 100).max() <= 1
    assert np.abs(counts - cohort.counts() / 10).max() < 2
    assert [site.name for site in sites][:2] == ["site-01", "site-02"]


def test_quantity_sites_have_the_proportions_asked_for():
    cohort = drawn(1000)
    sites = partition.quantity(cohort, proportions=[6, 3, 1], seed=0, validation=0, test=0)
    assert [len(site) for site in sites] == pytest.approx([600, 300, 100], abs=1)
    shares = [partition.label_distribution(site) for site in sites]
    assert partition.total_variation(shares[0], shares[2]) < 0.02


def test_power_law():
    assert partition.power_law(3, 0).tolist() == pytest.approx([1 / 3] * 3)
    assert partition.power_law(2, 1).tolist() == pytest.approx([2 / 3, 1 / 3])


def test_dirichlet_skew_grows_as_alpha_falls_and_the_minimum_holds():
    cohort = drawn(1000)

    def mean_skew(alpha):
        values = []
        for seed in range(5):
            sites = partition.dirichlet(
                cohort, sites=4, alpha=alpha, seed=seed, minimum=30, validation=0, test=0
            )
            assert min(len(site) for site in sites) >= 30
            values.append(partition.divergence_table(sites)["jensen_shannon"].mean())
        return np.mean(values)

    strong, medium, weak = (mean_skew(alpha) for alpha in (0.1, 1.0, 1000.0))
    assert strong > medium > weak
    assert weak < 0.01


def test_dirichlet_shares_have_the_mean_and_variance_of_the_distribution():
    cohort = labelled(np.zeros(200, dtype=np.int64))
    shares = np.array(
        [
            [
                len(site) / 200
                for site in partition.dirichlet(
                    cohort, sites=3, alpha=2.0, seed=seed, minimum=0, validation=0, test=0
                )
            ]
            for seed in range(100)
        ]
    )
    assert shares.mean(axis=0) == pytest.approx([1 / 3] * 3, abs=0.06)
    assert shares.var() == pytest.approx((1 / 3) * (2 / 3) / 7, rel=0.3)


@settings(max_examples=20, deadline=None)
@given(sites=st.integers(2, 8), classes_per_site=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_pathological_sites_hold_exactly_so_many_classes(sites, classes_per_site, seed):
    cohort = drawn(600, seed=1)
    cut = partial(
        partition.pathological,
        cohort,
        sites=sites,
        classes_per_site=classes_per_site,
        seed=seed,
        validation=0,
        test=0,
    )
    if sites * classes_per_site < 4:
        with pytest.raises(PartitionError, match="cannot hold all 4 classes"):
            cut()
        return
    counts = np.array([site.train.counts() for site in cut()])
    assert np.all((counts > 0).sum(axis=1) == classes_per_site)
    for column in counts.T:
        held = column[column > 0]
        assert held.max() - held.min() <= 1


# Groups


def patterns(count, side=32, seed=0):
    """Images of coarse random patterns, which no two share."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(40, 216, (count, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return coarse.repeat_interleave(side // 16, dim=2).repeat_interleave(side // 16, dim=3)


def test_brighter_and_noisy_copies_are_near_duplicates_and_others_are_not():
    images = patterns(40)
    noise = torch.randint(-3, 4, images.shape, generator=torch.Generator().manual_seed(1))
    brighter = (images[:10].int() + 30).to(torch.uint8)
    noisy = (images[10:20].int() + noise[10:20]).to(torch.uint8)
    groups = partition.near_duplicates(torch.cat([images, brighter, noisy]))
    assert groups.dtype == np.int64
    assert groups.tolist() == [*range(40), *range(20)]


def test_near_duplicates_of_near_duplicates_are_one_group():
    grey = patterns(1).float()
    steps = torch.linspace(0, 1, 30)[:, None, None, None]
    fading = (grey * (1 - steps) + patterns(1, seed=1).float() * steps).round().to(torch.uint8)
    bits = partition.average_hash(fading)
    assert (bits[0] != bits[-1]).sum() > 50
    assert set(partition.near_duplicates(fading, distance=20).tolist()) == {0}
    assert partition.near_duplicates(fading[[0, -1]], distance=20).tolist() == [0, 1]


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 60), distance=st.integers(0, 140), seed=st.integers(0, 10**6))
def test_near_duplicates_are_the_components_of_a_plain_search(rows, distance, seed):
    bits = partition.average_hash(patterns(rows, 16, seed))
    expected = np.arange(rows)
    for one in range(rows):
        for other in range(one):
            if (bits[one] != bits[other]).sum() <= distance:
                expected[expected == expected[one]] = expected[other]
    groups = partition.near_duplicates(patterns(rows, 16, seed), distance=distance)
    assert np.array_equal(groups[:, None] == groups, expected[:, None] == expected)


def test_many_equal_images_are_one_group():
    assert set(partition.near_duplicates(torch.full((3000, 3, 8, 8), 200, dtype=torch.uint8)).tolist()) == {0}


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 300), block=st.integers(1, 60), seed=st.integers(0, 10**6))
def test_blocks_are_runs_of_one_class_and_site_of_about_the_size_asked_for(rows, block, seed):
    cohort = drawn(rows, seed=seed, hospitals=2)
    groups = partition.contiguous_blocks(cohort, block=block)
    assert set(groups.tolist()) == set(range(groups.max() + 1))
    kinds = list(zip(cohort.site.tolist(), cohort.labels.tolist(), strict=True))
    for kind in set(kinds):
        held = groups[[one == kind for one in kinds]]
        sizes = np.bincount(held)[held.min() :]
        assert np.all(np.diff(held) >= 0)
        assert sizes.sum() == len(held)
        assert sizes.max() - sizes.min() <= 1
        assert len(sizes) == max(1, round(len(held) / block))


def test_the_default_block_gives_as_many_blocks_as_the_taleqani_smears_have_patients():
    cohort = labelled(np.repeat([0, 1, 2, 3], [504, 985, 963, 804]))
    assert partition.contiguous_blocks(cohort).max() + 1 == 89


@pytest.mark.parametrize("cut", CUTS)
def test_no_group_is_on_two_sides(cut):
    cohort = drawn(600, hospitals=3)
    cohort = partition.grouped(cohort, partition.contiguous_blocks(cohort, block=7))
    assert cohort.patient.dtype.kind == "U"
    for split_within in ("site", "cohort"):
        sites = CUTS[cut](cohort, 0, split_within=split_within)
        sides = [{g for site in sites for g in getattr(site, part).patient} for part in partition.PARTS]
        assert sum(map(len, sides)) == len(set.union(*sides)) == len(set(cohort.patient.tolist()))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda c: partition.grouped(c, np.zeros(3, dtype=int)), "whole number for each of the 20 rows"),
        (lambda c: partition.grouped(c, np.zeros(20)), "'groups' holds float64"),
        (lambda c: partition.contiguous_blocks(c, block=0), "'block' is 0"),
        (lambda c: partition.near_duplicates(c.images, distance=-1), "'distance' is -1"),
        (lambda c: partition.near_duplicates(c.images[:0]), "no images"),
    ],
)
def test_impossible_groups_are_refused_with_a_sentence(call, sentence):
    with pytest.raises(PartitionError, match=sentence):
        call(drawn(20))


@pytest.fixture(scope="module")
def taleqani(real_data):
    return data.load("taleqani", size=64)


@pytest.mark.real
def test_the_taleqani_smears_have_near_duplicates_of_one_class_among_neighbours(taleqani):
    groups = partition.near_duplicates(taleqani.images)
    members = [np.flatnonzero(groups == group) for group in np.flatnonzero(np.bincount(groups) > 1)]
    assert 0.03 < sum(map(len, members)) / len(taleqani) < 0.05
    assert all(len(set(taleqani.labels[rows].tolist())) == 1 for rows in members)
    assert max(np.ptp(rows) for rows in members) <= 5


@pytest.mark.real
def test_grouped_taleqani_smears_have_no_near_duplicate_on_two_sides(taleqani):
    groups = partition.near_duplicates(taleqani.images)

    def straddling(cohort):
        train, _, test = partition.split(replace(cohort, site=groups), seed=0)
        return set(train.site.tolist()) & set(test.site.tolist())

    assert straddling(taleqani)
    assert not straddling(partition.grouped(taleqani, groups))


@pytest.mark.real
def test_the_taleqani_reader_keeps_the_order_of_the_file_numbers(taleqani):
    for label in range(4):
        names = taleqani.patient[taleqani.labels.numpy() == label]
        numbers = [int(name.rpartition("-")[2].removesuffix(".jpg")) for name in names]
        assert numbers == list(range(1, len(numbers) + 1))


# Schemes by name


@pytest.mark.parametrize(
    ("scheme", "settings"),
    [
        ("natural", {}),
        ("iid", {"sites": 3}),
        ("quantity", {"proportions": tuple(partition.power_law(3, 1.0))}),
        ("dirichlet", {"sites": 3, "alpha": 0.3}),
        ("pathological", {"sites": 3, "classes_per_site": 2}),
    ],
)
def test_a_scheme_is_found_by_its_name_with_its_settings_for_a_number_of_sites(scheme, settings):
    found, cohort = partition.SCHEMES[scheme], drawn(400, hospitals=2)
    assert found.settings(3, 0.3) == settings
    by_name = found.cut(cohort, seed=1, test=0.3, **settings)
    by_hand = getattr(partition, scheme)(cohort, seed=1, test=0.3, **settings)
    assert everything(by_name) == everything(by_hand)


def test_a_scheme_says_what_it_takes_of_the_user():
    takes = {name: scheme.takes for name, scheme in partition.SCHEMES.items()}
    for name, scheme in partition.SCHEMES.items():
        changed = {scheme.settings(sites, 0.5) != scheme.settings(2, 0.5) for sites in (3, 4)}
        assert changed == {"sites" in takes[name]}, name
        assert (scheme.settings(2, 0.1) != scheme.settings(2, 0.5)) == ("alpha" in takes[name]), name
        assert ("minimum" in inspect.signature(scheme.cut).parameters) == ("minimum" in takes[name]), name


# Refusals


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda c: partition.iid(c, sites=61, seed=0), "61 sites of at least 1 rows"),
        (lambda c: partition.iid(c, sites=0, seed=0), "'sites' is 0"),
        (lambda c: partition.iid(c, sites=40, seed=0), "part would have none"),
        (lambda c: partition.iid(c, sites=2, seed=0, by="cell"), "choose 'row' or 'patient'"),
        (lambda c: partition.iid(c, sites=2, seed=0, split_within="client"), "choose 'site' or 'cohort'"),
        (lambda c: partition.iid(c, sites=15, seed=0, split_by="row", split_within="cohort"), "have none"),
        (lambda c: partition.quantity(c, proportions=[1, 0], seed=0), "'proportions' must be positive"),
        (lambda c: partition.quantity(c, proportions=[1, float("nan")], seed=0), "'proportions'"),
        (lambda c: partition.power_law(0, 1), "'sites' is 0"),
        (lambda c: partition.dirichlet(c, sites=3, alpha=0, seed=0), "'alpha' is 0"),
        (lambda c: partition.dirichlet(c, sites=3, alpha=float("nan"), seed=0), "'alpha' is nan"),
        (lambda c: partition.dirichlet(c, sites=7, alpha=1, seed=0), "need 70 rows"),
        (lambda c: partition.dirichlet(c, sites=6, alpha=1e-3, seed=0), "no draw of 'alpha'"),
        (lambda c: partition.dirichlet(c, sites=2, alpha=1, seed=0, by="patient"), "use by='row'"),
        (lambda c: partition.pathological(c, sites=3, classes_per_site=5, seed=0), "choose 1 to 4"),
        (lambda c: partition.pathological(c, sites=50, classes_per_site=4, seed=0), "a class has"),
        (lambda c: partition.split(c, validation=0.5, test=0.5, seed=0), "sum below 1"),
        (lambda c: partition.split(c, validation=-0.1, seed=0), "shares from 0"),
        (lambda c: partition.split(c.take([]), seed=0), "no rows"),
        (lambda c: partition.split(c.take([0]), seed=0), "validation part would have none"),
        (lambda c: partition.label_distribution(c.take([])), "without rows"),
    ],
)
def test_impossible_requests_are_refused_with_a_sentence(call, sentence):
    cohort = drawn(60, patients=6)
    with pytest.raises(PartitionError, match=sentence):
        call(cohort)


# Stain shift


def random_images(count=3, size=8):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def pictures():
    """Two natural sites with images of random pixels."""
    images = random_images(60)
    return ImageCohort(
        images=images,
        labels=torch.arange(60) % 2,
        classes=("a", "b"),
        site=np.repeat(["north", "south"], 30),
        patient=np.arange(60),
        provenance=PROVENANCE,
    )


def test_neutral_stain_changes_no_pixel():
    every = torch.arange(0, 256, 5, dtype=torch.uint8)
    images = torch.stack(torch.meshgrid(every, every, every, indexing="ij")).reshape(1, 3, 52, -1)
    assert torch.equal(partition.restain_images(images, partition.Stain()), images)


def test_strength_zero_changes_nothing():
    sites = partition.natural(pictures(), seed=0)
    for before, after in zip(sites, partition.stained(sites, strength=0, seed=0), strict=True):
        assert same(before.train, after.train)
        assert same(before.test, after.test)


def test_stain_shift_depends_on_site_and_seed_and_grows_with_strength():
    sites = partition.natural(pictures(), seed=0)

    def changes(strength, seed):
        shifted = partition.stained(sites, strength=strength, seed=seed)
        pairs = zip(sites, shifted, strict=True)
        return [(b.train.images.float() - a.train.images.float()).abs().mean().item() for a, b in pairs]

    weak, strong = changes(0.5, 0), changes(1.5, 0)
    assert changes(0.5, 0) == weak
    assert changes(0.5, 1) != weak
    assert weak[0] != weak[1]
    assert all(0 < a < b for a, b in zip(weak, strong, strict=True))


def test_a_restained_cohort_says_so_and_keeps_labels():
    cohort = pictures()
    changed = partition.restain(cohort, partition.Stain(blue=1.4))
    assert "restained" in changed.provenance.name
    assert changed.provenance.checksum != cohort.provenance.checksum
    assert torch.equal(changed.labels, cohort.labels)


def test_more_of_a_dye_darkens_what_it_colours_and_white_stays_white():
    blue_cell = (256 * np.exp(-partition.DYES[0]) - 1).round().astype(np.uint8)
    images = torch.stack([torch.from_numpy(blue_cell), torch.full((3,), 255, dtype=torch.uint8)])
    images = images.reshape(2, 3, 1, 1)
    darker = partition.restain_images(images, partition.Stain(blue=2.0)).reshape(2, 3).numpy()
    expected = 256 * np.exp(-2 * partition.DYES[0]) - 1
    assert darker[0] == pytest.approx(expected, abs=2)
    assert darker[1].tolist() == [255, 255, 255]


def test_gain_multiplies_light():
    grey = torch.full((1, 3, 1, 1), 99, dtype=torch.uint8)
    result = partition.restain_images(grey, partition.Stain(gain=(1.0, 0.5, 3.0)))
    assert result.flatten().tolist() == [99, 49, 255]


def test_stain_shift_is_for_images_only():
    rows = LabelledCohort(
        labels=torch.zeros(2, dtype=torch.int64),
        classes=("a",),
        site=np.array(["x", "x"]),
        patient=np.arange(2),
        provenance=PROVENANCE,
    )
    with pytest.raises(PartitionError, match="stains are for images"):
        partition.restain(rows, partition.Stain(blue=2.0))
    with pytest.raises(PartitionError, match="'strength' is -1"):
        partition.stained(partition.natural(pictures(), seed=0), strength=-1, seed=0)


# Divergences


@st.composite
def distributions(draw, count=2):
    classes = draw(st.integers(2, 6))
    shares = []
    for _ in range(count):
        counts = draw(st.lists(st.integers(0, 50), min_size=classes, max_size=classes).filter(any))
        shares.append(np.array(counts) / sum(counts))
    return shares


SYMMETRIC = [partition.jensen_shannon, partition.total_variation, partition.earth_movers]


@pytest.mark.parametrize("measure", SYMMETRIC)
@settings(max_examples=60, deadline=None)
@given(pair=distributions())
def test_divergences_are_symmetric_bounded_and_zero_only_for_equals(measure, pair):
    p, q = pair
    limit = len(p) - 1 if measure is partition.earth_movers else 1
    value = measure(p, q)
    assert value == pytest.approx(measure(q, p), abs=1e-12)
    assert 0 <= value <= limit + 1e-12
    assert measure(p, p) == pytest.approx(0, abs=1e-12)
    assert (value > 1e-12) == (not np.allclose(p, q, atol=1e-9))


@settings(max_examples=60, deadline=None)
@given(pair=distributions())
def test_divergences_agree_with_scipy(pair):
    p, q = pair
    positions = np.arange(len(p))
    distance = np.nan_to_num(jensenshannon(p, q, base=2))
    assert partition.jensen_shannon(p, q) == pytest.approx(distance**2, abs=1e-9)
    assert partition.kl(p, q) == pytest.approx(entropy(p, q, base=2), abs=1e-9)
    by_order = wasserstein_distance(positions, positions, p, q)
    assert partition.earth_movers(p, q) == pytest.approx(by_order, abs=1e-9)
    steps = np.abs(positions[:, None] - positions)
    assert partition.earth_movers(p, q, steps) == pytest.approx(by_order, abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(pair=distributions())
def test_without_order_the_earth_movers_distance_is_the_total_variation(pair):
    p, q = pair
    nominal = 1 - np.eye(len(p))
    assert partition.earth_movers(p, q, nominal) == pytest.approx(partition.total_variation(p, q), abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(triple=distributions(count=3))
def test_distances_obey_the_triangle_inequality(triple):
    p, q, r = triple
    for distance in (partition.total_variation, partition.earth_movers):
        assert distance(p, r) <= distance(p, q) + distance(q, r) + 1e-9


def test_kl_is_infinite_for_a_missing_class_unless_smoothed():
    assert partition.kl([0.5, 0.5], [1, 0]) == np.inf
    assert partition.kl([1, 0], [0.5, 0.5]) == pytest.approx(1)
    assert 0 < partition.kl([0.5, 0.5], [1, 0], smoothing=1e-3) < 10


@pytest.mark.parametrize("measure", [*SYMMETRIC, partition.kl])
@pytest.mark.parametrize(
    ("p", "q"), [([0.5, 0.5], [1.0]), ([0.5, 0.6], [1, 0]), ([1, 0], [2, -1]), ([np.nan, 1], [1, 0])]
)
def test_what_is_no_distribution_is_refused(measure, p, q):
    with pytest.raises(PartitionError, match="give"):
        measure(p, q)


def test_a_wrong_ground_distance_is_refused():
    with pytest.raises(PartitionError, match="2 x 2"):
        partition.earth_movers([1, 0], [0, 1], np.ones((3, 3)))


def test_divergence_table_has_a_row_a_pair():
    sites = partition.natural(labelled([0] * 30 + [1] * 30, hospitals=["x"] * 30 + ["y"] * 30), seed=0)
    table = partition.divergence_table(sites, ground=1 - np.eye(4))
    assert table[["first", "second"]].to_numpy().tolist() == [["x", "y"]]
    assert table.loc[0, "jensen_shannon"] == pytest.approx(1)
    assert table.loc[0, "total_variation"] == pytest.approx(1)
    assert table.loc[0, "earth_movers"] == pytest.approx(1)
    assert np.isinf(table.loc[0, "kl_first_second"])


def test_tables_of_different_largest_label_are_comparable():
    def site(name, labels):
        cohort = TableCohort(
            features=torch.zeros(len(labels), 1),
            feature_names=("x",),
            label=torch.tensor(labels),
            site=np.array([name] * len(labels)),
            patient=np.arange(len(labels)),
            provenance=PROVENANCE,
        )
        return partition.Site(name, cohort, cohort, cohort)

    table = partition.divergence_table([site("x", [0, 0]), site("y", [0, 2])])
    assert table.loc[0, "total_variation"] == pytest.approx(0.5)
    assert table.loc[0, "earth_movers"] == pytest.approx(1)
