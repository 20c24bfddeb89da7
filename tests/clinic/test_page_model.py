"""A page's file holds the very numbers of the model: who multiplies them gets the weights of Python."""

import base64
import json

import numpy as np
import onnxruntime
import pytest
import torch
from builders.clinic import CLASSES, SIZE, a_card, a_model, a_scope, images

from hemafl_lib import clinic
from hemafl_lib.errors import ModelError
from hemafl_lib.models import AttentionCNN


def weights_of(document):
    """Return the weights of a page's file, as a page reads them."""
    found = {}
    for name, tensor in document["tensors"].items():
        kind = {"int8": np.int8, "float32": "<f4"}[tensor["dtype"]]
        values = np.frombuffer(base64.b64decode(tensor["data"]), kind).reshape(tensor["shape"])
        if tensor["dtype"] == "int8":
            scale = np.frombuffer(base64.b64decode(tensor["scale"]), "<f4")
            values = values * scale.reshape(-1, *[1] * (values.ndim - 1))
        found[name] = torch.from_numpy(values.astype(np.float32))
    return found


@pytest.mark.parametrize("settings", [{}, {"norm": "group", "width": 8}])
def test_the_file_holds_the_weights_that_answer_in_python(settings, tmp_path):
    model = a_model(a_card(scope=(a_scope(0.1),)), **settings)
    clinic.export(model, "page", tmp_path / "page.json")
    document = json.loads((tmp_path / "page.json").read_text())
    state = {name: value for name, value in model.network.state_dict().items() if value.is_floating_point()}
    found = weights_of(document)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value.float()) for name, value in state.items())


def test_the_file_says_what_the_card_says(tmp_path):
    model = a_model(a_card(scope=(a_scope(0.1),)))
    document = clinic.page_model(model)
    assert document["format"] == "hemafl page model"
    assert document["version"] == 1
    assert document["network"] == {
        "kind": "AttentionCNN",
        "width": 16,
        "attention": "se",
        "norm": "batch",
        "classes": 3,
        "size": SIZE,
    }
    assert document["card"]["classes"] == list(CLASSES)
    assert document["card"]["scope"][0]["matrix"] == [[1.0] + [0.0] * 14]
    assert clinic.Card.model_validate_json(json.dumps(document["card"])) == model.card


def test_an_exported_network_answers_as_the_saved_one(tmp_path):
    model = a_model()
    clinic.export(model, "onnx", tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": images(3).numpy().astype(np.float32) / 255})
    np.testing.assert_allclose(logits, clinic.answer(model, images(3)).logits, atol=1e-5)


def test_a_network_that_would_keep_a_browser_busy_is_not_written_for_the_page(tmp_path):
    network = AttentionCNN(len(CLASSES), width=64)
    model = clinic.as_saved(network, 512, a_card())
    with pytest.raises(ModelError, match="products for an answer"):
        clinic.export(model, "page", tmp_path / "page.json")
    assert not (tmp_path / "page.json").exists()


def test_an_unknown_target_is_answered_with_those_that_are_known(tmp_path):
    with pytest.raises(ModelError, match="page, onnx"):
        clinic.export(a_model(), "paper", tmp_path / "file")
