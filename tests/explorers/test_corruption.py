"""What corrupted hospitals do to their labels and to their updates."""

import numpy as np
import pytest

from hemafl_book.explorers.corruption import CORRUPTIONS, SendNoise, mislabel


def test_a_mislabelling_hospital_moves_every_label_to_the_next_class():
    assert mislabel(np.array([0, 3, 1, 2, 2]), 4).tolist() == [1, 0, 2, 3, 3]
    assert CORRUPTIONS["wrong labels"].labels is mislabel
    assert CORRUPTIONS["noise"].labels(np.array([0, 3]), 4).tolist() == [0, 3]


def test_noise_has_the_norm_of_the_update_and_no_other_likeness():
    update = {"a": np.ones((40, 25)), "b": np.zeros(3)}
    drawn = SendNoise(seed=0).change(update, site=0, round_number=1)
    assert np.linalg.norm(drawn["a"]) == pytest.approx(np.linalg.norm(update["a"]))
    assert abs(np.vdot(drawn["a"], update["a"])) < 0.15 * np.linalg.norm(update["a"]) ** 2
    assert not drawn["b"].any()
    again = SendNoise(seed=0).change(update, site=0, round_number=2)
    assert not np.array_equal(again["a"], drawn["a"])


@pytest.mark.parametrize(
    ("name", "factor"), [("opposite step x 10", -10), ("opposite step x 1,000,000", -1e6)]
)
def test_an_opposite_step_is_as_long_as_its_name_says(name, factor):
    (mod,) = CORRUPTIONS[name].mods((0, 1), 0)
    assert mod.sites == (0, 1)
    assert mod.change({"a": np.array([0.5, -2.0])}, 0, 1)["a"].tolist() == [0.5 * factor, -2.0 * factor]
