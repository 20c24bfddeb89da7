"""One variable decides where networks run; what a caller names goes before it."""

import pytest
import torch
from torch import nn

from hemafl_lib.device import choose, place
from hemafl_lib.errors import HemaflError


@pytest.fixture(params=[True, False], ids=["with a GPU", "without a GPU"])
def has_gpu(request, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param)
    monkeypatch.delenv("HEMAFL_DEVICE", raising=False)
    return request.param


def test_without_a_word_the_gpu_is_taken_where_there_is_one(has_gpu):
    assert choose() == choose(None) == choose("auto") == ("cuda" if has_gpu else "cpu")


def test_the_variable_decides_where_the_caller_names_none(has_gpu, monkeypatch):
    monkeypatch.setenv("HEMAFL_DEVICE", "cpu")
    assert choose() == "cpu"
    assert choose("auto") == ("cuda" if has_gpu else "cpu")


def test_a_gpu_that_is_not_there_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        HemaflError, match=r"^device='cuda' is not available on this machine; choose 'cpu' or"
    ):
        choose("cuda")
    monkeypatch.setenv("HEMAFL_DEVICE", "cuda")
    with pytest.raises(HemaflError, match=r"^HEMAFL_DEVICE='cuda' is not available"):
        choose()


def test_an_unknown_device_is_refused_with_the_known_ones(monkeypatch):
    with pytest.raises(HemaflError, match=r"^device='tpu' is unknown; choose one of: auto, cpu, cuda.$"):
        choose("tpu")
    monkeypatch.setenv("HEMAFL_DEVICE", "gpu")
    with pytest.raises(HemaflError, match=r"^HEMAFL_DEVICE='gpu' is unknown"):
        choose()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_comes_back_where_it_was():
    model = nn.Linear(2, 2)
    with place(model, "cuda") as device:
        assert model.weight.device.type == device == "cuda"
    assert model.weight.device.type == "cpu"
