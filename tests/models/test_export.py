"""An exported model gives the same numbers without Python as with it."""

import builtins

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hemafl_lib.errors import DataError, ModelError
from hemafl_lib.models import AttentionCNN, backbone, to_onnx
from hemafl_lib.seeds import torch_generator

SIZE = 32


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 3, SIZE, SIZE, generator=torch_generator(0, "pictures"))


def with_history(model: AttentionCNN) -> AttentionCNN:
    """Give batch normalisation a mean and variance other than 0 and 1."""
    with torch.no_grad():
        model.train()(pictures(8))
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The default model, still in training mode, and its file."""
    model = with_history(AttentionCNN(4))
    path = tmp_path_factory.mktemp("onnx") / "cell.onnx"
    to_onnx(model, path, size=SIZE)
    return model, path


def assert_same_numbers(model, path, count):
    images = pictures(count)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits, activations = session.run(["logits", "activations"], {"images": images.numpy()})
    with torch.no_grad():
        model.eval()
        np.testing.assert_allclose(logits, model(images), atol=1e-5)
        np.testing.assert_allclose(activations, model.features(images), atol=1e-5)


@pytest.mark.parametrize(
    ("attention", "norm"), [("se", "group"), ("eca", "batch"), ("cbam", "group"), ("none", "batch")]
)
def test_onnxruntime_gives_the_same_numbers(attention, norm, tmp_path):
    model = with_history(AttentionCNN(4, attention=attention, norm=norm))
    to_onnx(model, tmp_path / "cell.onnx", size=SIZE)
    assert_same_numbers(model, tmp_path / "cell.onnx", 3)


@pytest.mark.parametrize("count", [1, 5])
def test_any_number_of_images_goes_in(exported, count):
    assert_same_numbers(*exported, count)


def test_the_model_stays_in_its_mode(tmp_path):
    model = AttentionCNN(2, attention="none")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    to_onnx(model, tmp_path / "cell.onnx", size=8)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_class_activation_map_can_be_computed_from_the_file(exported):
    model, path = exported
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits, activations = session.run(None, {"images": pictures(2).numpy()})
    weights, bias = model.head.weight.detach().numpy(), model.head.bias.detach().numpy()
    maps = np.einsum("cd,ndhw->nchw", weights, activations)
    np.testing.assert_allclose(maps.mean(axis=(2, 3)) + bias, logits, atol=1e-5)


def test_the_file_is_valid_complete_and_names_no_path(exported):
    _, path = exported
    onnx.checker.check_model(path, full_check=True)
    assert [file.name for file in path.parent.iterdir()] == ["cell.onnx"]
    content = path.read_bytes()
    assert b"hemafl_lib" not in content
    assert b"site-packages" not in content


@pytest.mark.survives("Writing an exported model fails", "the old file is still there")
def test_a_failed_export_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "cell.onnx"
    path.write_text("old")

    def broken(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", broken)
    with pytest.raises(DataError, match=r"cell.onnx cannot be written \(disk full\)"):
        to_onnx(AttentionCNN(2, attention="none"), path, size=8)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["cell.onnx"]


def test_bad_arguments_are_refused_in_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="SplitModel has no 'features' to export"):
        to_onnx(backbone("resnet34", 2, pretrained=False), tmp_path / "cell.onnx", size=32)
    with pytest.raises(ModelError, match="size is 7"):
        to_onnx(AttentionCNN(2), tmp_path / "cell.onnx", size=7)
    real_import = builtins.__import__

    def without_onnxscript(name, *rest):
        if name == "onnxscript":
            raise ImportError(name)
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_onnxscript)
    with pytest.raises(ModelError, match="explain"):
        to_onnx(AttentionCNN(2), tmp_path / "cell.onnx", size=8)
    assert not list(tmp_path.iterdir())
