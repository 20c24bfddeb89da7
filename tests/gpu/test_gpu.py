"""HEMAFL_DEVICE decides where everything computes, and a GPU gives the numbers of the CPU.

Every test compares with the CPU; on the CPU itself the numbers are the same to the bit. The tolerances are
for the GPU: its convolutions multiply with ten bits (TF32), and a difference grows with every step.
"""

import pytest
import torch
from builders.federated import pictures, same_parameters, sites, small_cnn

from hemafl_lib import explain, federation
from hemafl_lib.models import AttentionCNN, activations, backbone
from hemafl_lib.seeds import torch_generator
from hemafl_lib.training import Recipe, fit, predict


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: there is no GPU"),
            ],
        ),
    ]
)
def on_both(request, monkeypatch):
    """Compute twice, on the CPU and on the device; the variable alone says where."""

    def compute(task):
        monkeypatch.setenv("HEMAFL_DEVICE", "cpu")
        expected = task()
        monkeypatch.setenv("HEMAFL_DEVICE", request.param)
        if request.param == "cpu":
            return expected, task()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        found = task()
        assert torch.cuda.max_memory_allocated() > before, "nothing was computed on the GPU"
        return expected, found

    compute.exact = request.param == "cpu"
    return compute


def probabilities(model, cohort):
    return predict(model, cohort).softmax(dim=1)


def test_predict(on_both):
    model, cohort = AttentionCNN(2, seed=0), pictures(40, 0)
    expected, found = on_both(lambda: probabilities(model, cohort))
    assert torch.equal(expected, found) or not on_both.exact
    assert torch.allclose(expected, found, atol=5e-3)
    assert next(model.parameters()).device.type == found.device.type == "cpu"


def test_fit(on_both):
    cohort = pictures(40, 0)

    def trained():
        model = small_cnn()
        fit(model, cohort, Recipe(local_epochs=2), torch_generator(0, "fit"))
        return model

    expected, found = on_both(trained)
    assert same_parameters(expected, found) or not on_both.exact
    assert torch.allclose(probabilities(expected, cohort), probabilities(found, cohort), atol=2e-2)


def test_activations_of_a_frozen_prefix(on_both):
    model, cohort = backbone("efficientnet_lite0", 2, size=32), pictures(8, 0, size=32)
    expected, found = on_both(lambda: activations(model, cohort, progress=False).inputs)
    assert torch.equal(expected, found) or not on_both.exact
    assert expected.device == found.device
    assert (expected - found).abs().max() <= 1e-2 * expected.abs().max()


def test_a_federated_run(on_both):
    hospitals = sites(3, pictures)
    expected, found = on_both(lambda: federation.run(hospitals, model=AttentionCNN(2, seed=0), rounds=2))
    assert expected.hash == found.hash or not on_both.exact
    judged = hospitals[0].test
    assert torch.allclose(
        probabilities(expected.model, judged), probabilities(found.model, judged), atol=5e-2
    )
    left, right = (run.curve("loss").to_numpy() for run in (expected, found))
    assert left == pytest.approx(right, abs=5e-2)


@pytest.mark.parametrize("method", explain.METHODS)
def test_explanations(on_both, method):
    model, images = AttentionCNN(2, seed=0), pictures(3, 0).images
    expected, found = on_both(lambda: explain.saliency(model, images, 1, method))
    assert torch.equal(expected, found) or not on_both.exact
    assert expected.device == found.device
    assert (expected - found).abs().max() <= 5e-2 * expected.abs().max()
