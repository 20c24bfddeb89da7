"""What corrupted hospitals do to their labels."""

import torch

from hemafl_book.explorers.corruption import mislabel
from hemafl_lib import partition
from hemafl_lib.data import smear


def test_a_mislabelling_hospital_moves_every_training_label_and_no_other():
    site = partition.natural(smear.simulate(60, size=32, sites=("north",)), seed=0)[0]
    wrong = mislabel(site)
    assert torch.equal(wrong.train.labels, (site.train.labels + 1) % 4)
    assert torch.equal(wrong.test.labels, site.test.labels)
