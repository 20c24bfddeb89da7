"""The page of plain PyTorch computes what the library computes, to the last bit."""

import inspect

import pytest
import torch
from builders.federated import linear, pictures, same_parameters, sites, small_cnn, table

from hemafl_lib import federation
from hemafl_lib.federation import by_hand
from hemafl_lib.training import Recipe


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-4)


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-4, fused=True)  # as the library makes it


OPTIMISERS = {"sgd": (sgd, 0.05), "adamw": (adamw, 2e-3)}


@pytest.mark.parametrize("seed", [0, 1, 7])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize(
    ("make_model", "make_rows"),
    [(linear, table), (small_cnn, pictures)],
    ids=["table", "images"],
)
def test_it_equals_the_local_engine_to_the_bit(make_model, make_rows, optimiser, seed):
    """Sites of unequal sizes, batch norm, several epochs and rounds, and a last batch of one row."""
    hospitals, model = sites(3, make_rows, rows=25), make_model(seed)
    make_optimiser, rate = OPTIMISERS[optimiser]
    recipe = Recipe(optimiser=optimiser, learning_rate=rate, batch_size=8, local_epochs=2)
    ours = by_hand.federated_averaging(
        hospitals, model, make_optimiser, rounds=3, local_epochs=2, batch_size=8, seed=seed
    )
    run = federation.run(hospitals, model=model, recipe=recipe, rounds=3, seed=seed, evaluate=False)
    assert same_parameters(ours, run.model)
    assert not same_parameters(ours, model)


def test_each_round_can_be_watched():
    seen = {}
    model = by_hand.federated_averaging(
        sites(2),
        linear(),
        sgd,
        rounds=3,
        after_round=lambda number, m: seen.update({number: m[1].bias.sum().item()}),
    )
    assert list(seen) == [1, 2, 3]
    assert seen[3] == model[1].bias.sum().item() != seen[2]


def test_the_mean_counts_rows_and_keeps_the_largest_counter():
    replies = [
        {"w": torch.tensor([1.0, 0.0]), "count": torch.tensor(3)},
        {"w": torch.tensor([2.0, 4.0]), "count": torch.tensor(5)},
    ]
    mean = by_hand.average(replies, [900, 100])
    assert mean["w"].tolist() == pytest.approx([1.1, 0.4])
    assert mean["count"] == 5


def test_it_fits_on_a_page_and_knows_no_flower():
    source = inspect.getsource(by_hand)
    assert len(source.splitlines()) <= 110
    assert "import flwr" not in source
    assert "from flwr" not in source
    assert "for round_number in range(1, rounds + 1):" in source
    assert "for site in sites:" in source
