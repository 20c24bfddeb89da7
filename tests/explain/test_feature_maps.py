"""Grad-CAM looks at what the head reads, whatever the network is made of; others are refused."""

import re
import warnings

import pytest
import torch
import torch.nn.functional as F
from captum.attr import GuidedGradCam, LayerGradCam
from torch import nn
from torchvision.models import resnet18

from hemafl_lib import explain
from hemafl_lib.errors import ExplanationError
from hemafl_lib.explain.feature_maps import feature_maps
from hemafl_lib.explain.saliency import prepare
from hemafl_lib.models import AttentionCNN, backbone
from hemafl_lib.seeds import initialised, torch_generator


def pictures(count=2, size=64):
    return torch.rand(count, 3, size, size, generator=torch_generator(0))


def read_by_head(model, images):
    """What the last linear layer is given, [N, D]."""
    head = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    given = []
    hook = head.register_forward_hook(lambda _layer, inputs, _output: given.append(inputs[0]))
    with torch.no_grad():
        model.eval()(images)
    hook.remove()
    return given[0]


def maps_of(model, images):
    copied, inputs, target = prepare(model, images, 1, None)
    return feature_maps(copied, inputs, target, None)[0]


class Plain(nn.Module):
    """Convolutions between functions; ``act`` is a ReLU as a layer or as a function."""

    def __init__(self, act):
        super().__init__()
        with initialised(0, "plain"):
            self.first, self.second = nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 8, 3, padding=1)
            self.head = nn.Linear(8, 3)
        self.act, self.last = act, nn.Identity()

    def features(self, images):
        maps = self.act(self.first(images))
        return self.last(self.act(self.second(maps) + maps))

    def forward(self, images):
        return self.head(self.features(images).mean(dim=(2, 3)))


class InARow(Plain):
    """Lays the places out in a row before their mean."""

    def forward(self, images):
        return self.head(self.features(images).permute(0, 2, 3, 1).flatten(1, 2).mean(dim=1))


class TwoArms(Plain):
    """Two poolings of two feature maps, which no later one joins."""

    def forward(self, images):
        maps = self.act(self.first(images))
        return self.head(maps.mean(dim=(2, 3)) + self.act(self.second(maps)).amax(dim=(2, 3)))


BACKBONES = (
    "resnet34", "resnet50", "densenet121", "nasnetmobile", "inceptionv3", "xception", "efficientnetb0",
    "mobilenetv2", "efficientnet_lite0",
)  # fmt: skip


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.survives(
    "A network whose last layers are a concatenation, a shortcut or an activation",
    "Grad-CAM looks at the tensor that the head averages, in every backbone of the book",
)
def test_the_mean_of_the_maps_is_what_the_head_is_given(name):
    model, images = backbone(name, 4, pretrained=False), pictures(1, 128)
    maps = maps_of(model, images)
    assert maps.shape[2] > 1
    torch.testing.assert_close(maps.mean(dim=(2, 3)), read_by_head(model, images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("attention", ["se", "eca", "cbam", "none"])
def test_the_attention_cnn_is_explained_after_its_last_activation(attention):
    model, images = AttentionCNN(4, width=8, attention=attention).eval(), pictures(2, 32)
    torch.testing.assert_close(maps_of(model, images), model.features(images).detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("act", [nn.ReLU(), nn.ReLU(inplace=True), F.relu, torch.relu_])
@pytest.mark.parametrize("network", [Plain, InARow])
@pytest.mark.survives(
    "A network that uses one ReLU layer again and again, or calls it as a function, even in place",
    "Grad-CAM is that of Captum at the last activation",
)
def test_activations_need_not_be_layers(network, act):
    model, images = network(act).eval(), pictures()
    twin = network(nn.ReLU()).eval()
    theirs = LayerGradCam(twin, twin.last).attribute(images, 1, relu_attributions=True)[:, 0].detach()
    assert theirs.abs().max() > 0
    torch.testing.assert_close(explain.saliency(model, images, 1, "grad_cam"), theirs, atol=1e-7, rtol=1e-5)


def test_a_residual_network_of_torchvision_is_explained_as_captum_does_at_its_last_block():
    with initialised(0, "resnet18"):
        model = resnet18(weights=None, num_classes=4).eval()
    images = pictures()
    for method, captum in (("grad_cam", LayerGradCam), ("guided_grad_cam", GuidedGradCam)):
        mine = explain.saliency(model, images, 1, method)
        named = explain.saliency(model, images, 1, method, layer="layer4")
        relu = {"relu_attributions": True} if method == "grad_cam" else {}
        for layer in model.modules():
            if isinstance(layer, nn.ReLU):
                layer.inplace = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = captum(model, model.layer4).attribute(images, 1, **relu).sum(dim=1).detach()
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(named, theirs, atol=1e-6, rtol=1e-4)


def test_a_layer_that_is_used_twice_is_taken_at_its_last_use():
    model, images = Plain(nn.ReLU()).eval(), pictures()
    last = explain.saliency(model, images, 1, "grad_cam", layer="act")
    torch.testing.assert_close(last, explain.saliency(model, images, 1, "grad_cam", layer="last"))


def test_a_sequence_of_layers_is_explained_where_it_is_flattened():
    with initialised(0, "sequence"):
        layers = [
            nn.Conv2d(3, 4, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout2d(0.5),
            nn.Flatten(),
            nn.LazyLinear(3),
        ]
        model = nn.Sequential(*layers)
        model(pictures())
    mine = explain.saliency(model, pictures(), 1, "grad_cam")
    theirs = LayerGradCam(model.eval(), model[2]).attribute(pictures(), 1, relu_attributions=True)[:, 0]
    torch.testing.assert_close(mine, theirs.detach(), atol=1e-7, rtol=1e-5)


@pytest.mark.survives(
    "A network with two branches that are pooled apart",
    "Grad-CAM looks at the last feature maps that both come from, not at one branch",
)
def test_one_of_two_branches_is_not_what_the_head_reads():
    model, images = TwoArms(F.relu).eval(), pictures()
    maps = maps_of(model, images)
    torch.testing.assert_close(maps, model.first(images).relu().detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", explain.METHODS)
@pytest.mark.survives(
    "A network in training mode, frozen, or explained within `torch.no_grad()` or `torch.inference_mode()`",
    "the same maps; its batch-norm statistics stay as they were",
)
def test_modes_make_no_difference(method):
    model, images = AttentionCNN(4, width=8).train(), pictures(2, 32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plain = explain.saliency(model, images, 1, method)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        assert torch.equal(explain.saliency(model, images, 1, method), plain)
    with torch.inference_mode():
        assert torch.equal(explain.saliency(model, images * 1, 1, method), plain)
    assert torch.equal(explain.saliency(model.requires_grad_(False), images, 1, method), plain)


# What cannot be explained


class Odd(nn.Module):
    """Gives what ``answer`` makes of the logits."""

    def __init__(self, answer):
        super().__init__()
        self.network, self.answer = AttentionCNN(4, width=8), answer

    def forward(self, images):
        return self.answer(self.network(images))


class Pixels(nn.Module):
    """A linear model of the pixels: it has no feature maps."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3 * 16 * 16, 2)

    def forward(self, images):
        return self.head((images - 0.5).flatten(1))


SMALL = pictures(2, 16)
WRONG = [
    pytest.param(SMALL * 255, 0, "images are floats from .* give floats in", marks=pytest.mark.survives(
        "Images as floats from 0 to 255, or normalised below 0", "a sentence; floats lie in [0, 1]")),
    pytest.param(SMALL - 0.5, 0, "images are floats from -0"),
    pytest.param(SMALL / 0, 0, "finite floats", marks=pytest.mark.survives(
        "Images with a pixel that is NaN or infinite", "a sentence")),
    pytest.param(SMALL > 0.5, 0, "images are torch.bool"),
    pytest.param(SMALL[:, :1], 0, "square RGB images"),
    pytest.param(SMALL[:, :, :8], 0, "square RGB images"),
    pytest.param(SMALL[:, :, :1, :1], 0, "square RGB images"),
    pytest.param(SMALL[:, :, :4, :4], 0, "cannot evaluate an image of 4 pixels", marks=pytest.mark.survives(
        "Images too small for the network", "a sentence with their side and the network's own reason")),
    pytest.param(SMALL, True, "type torch.bool", marks=pytest.mark.survives(
        "A class to explain that is no class number: True, 1.0, -1 or one too high", "a sentence")),
    pytest.param(SMALL, 1.0, "type torch.float32"),
    pytest.param(SMALL, 4, "class numbers from 0 to 3"),
    pytest.param(SMALL, torch.tensor([0, -1]), "class numbers from 0 to 3"),
]  # fmt: skip


def refuses(call, sentence):
    with pytest.raises(ExplanationError, match=sentence) as caught:
        call()
    assert len(re.findall(r"[.?!](?:\s|$)", str(caught.value))) == 1


@pytest.mark.parametrize(("images", "target", "sentence"), WRONG)
def test_images_and_targets_that_do_not_fit_are_refused(images, target, sentence):
    model = AttentionCNN(4, width=8)
    for method in explain.METHODS:
        refuses(lambda method=method: explain.saliency(model, images, target, method), sentence)


def test_rounding_does_not_push_pictures_out_of_range():
    model = AttentionCNN(4, width=8)
    assert explain.saliency(model, torch.full((1, 3, 16, 16), 1 + 1e-6), 0, "occlusion").shape == (1, 16, 16)


ODD = [
    (lambda scores: scores[:, 0], "gives shape \\[1\\] for one image"),
    (lambda scores: (scores, scores), "gives tuple for one image"),
    (lambda scores: scores[:, :, None], "give a model of logits"),
    (lambda scores: scores / 0, "scores that are not finite"),
]


@pytest.mark.parametrize(("answer", "sentence"), ODD)
@pytest.mark.survives(
    "A model that gives no logits, several outputs, or NaN", "a sentence that says what it gave"
)
def test_models_without_logits_are_refused(answer, sentence):
    refuses(lambda: explain.saliency(Odd(answer), SMALL, 0, "occlusion"), sentence)


@pytest.mark.parametrize("method", ["grad_cam", "integrated_gradients", "guided_grad_cam"])
def test_a_model_that_cuts_its_gradient_is_refused_by_methods_that_need_it(method):
    model = Odd(lambda scores: scores.detach())
    refuses(lambda: explain.saliency(model, SMALL, 0, method), "gives no gradient")
    assert explain.saliency(model, SMALL, 0, "occlusion").shape == (2, 16, 16)


@pytest.mark.survives(
    "A vision transformer, or a model of the pixels alone, which has no feature maps",
    "a sentence names the methods that need none, and these work",
)
def test_networks_without_feature_maps_are_refused_with_the_methods_that_work():
    transformer = backbone("dinov2_s", 2, pretrained=False, size=14)
    images = pictures(1, 14)
    refuses(
        lambda: explain.saliency(transformer, images, 0, "grad_cam"), "'integrated_gradients' or 'occlusion'"
    )
    refuses(
        lambda: explain.saliency(transformer, images, 0, "grad_cam", layer="suffix.norm"), "not feature maps"
    )
    refuses(lambda: explain.saliency(Pixels(), SMALL, 0, "grad_cam"), "has no feature maps")
    for model, pixels in ((transformer, images), (Pixels(), SMALL)):
        for method in ("integrated_gradients", "occlusion"):
            assert explain.saliency(model, pixels, 0, method).isfinite().all()


@pytest.mark.survives(
    "A layer of a single place, because the images are small or the layer comes after the mean", "a sentence"
)
def test_a_layer_of_a_single_place_is_refused():
    model = backbone("efficientnet_lite0", 3, pretrained=False)
    for layer in ("suffix.conv_head", "suffix.classifier"):
        refuses(
            lambda layer=layer: explain.saliency(model, SMALL, 0, "grad_cam", layer=layer),
            "of several places",
        )


def test_the_class_activation_map_is_refused_for_other_networks():
    refuses(lambda: explain.cam(Pixels(), SMALL, 0), "reads the head of an AttentionCNN")


# What it costs


class Counting(AttentionCNN):
    """Counts the images that it evaluates."""

    def __init__(self):
        super().__init__(4, width=8)
        self.seen = []

    def forward(self, images):
        self.seen.append(len(images))
        return super().forward(images)


@pytest.mark.parametrize("explained", [
    lambda model, images: explain.saliency(model, images, 1, "grad_cam"),
    lambda model, images: explain.class_map(model, images, 1, "layer_cam"),
    lambda model, images: explain.class_map(model, images, 1, "hires_cam", against=0),
])  # fmt: skip
def test_each_image_is_evaluated_once(explained):
    model = Counting().eval()
    explained(model, pictures(40, 16))
    assert model.seen == [32, 8]


def test_large_pictures_are_explained_a_few_at_a_time():
    model = Counting().eval()
    explain.saliency(model, pictures(3, 512), 1, "grad_cam")
    assert model.seen == [2, 1]


class Normalising(Plain):
    """Overwrites its input."""

    def forward(self, images):
        return super().forward(images.sub_(0.5))


OWN_COPIES = ("grad_cam", "integrated_gradients", "occlusion", "gradient_shap", "score_cam")
"""The methods that keep their images from a network that overwrites them; guided Grad-CAM cannot."""


@pytest.mark.parametrize("method", OWN_COPIES)
def test_a_network_that_overwrites_its_input_is_explained_and_leaves_the_images(method):
    model, images = Normalising(nn.ReLU()).eval(), pictures(2, 32)
    twin, before = Plain(nn.ReLU()).eval(), images.clone()
    mine = explain.relevance(model, images, 1, method)
    assert torch.equal(images, before)
    assert mine.abs().max() > 0
    if method == "grad_cam":
        faithful = explain.deletion(model, images, 1, mine)
        first = model(images.clone()).softmax(dim=1)[:, 1].detach()
        torch.testing.assert_close(faithful.probabilities[:, 0], first)
        theirs = LayerGradCam(model, model.last).attribute(images.clone(), 1, relu_attributions=True)[:, 0]
        torch.testing.assert_close(mine, theirs.detach(), atol=1e-7, rtol=1e-5)
    if method == "occlusion":
        twin.forward = lambda rows: Plain.forward(twin, rows - 0.5)
        torch.testing.assert_close(mine, explain.relevance(twin, images, 1, method), atol=1e-6, rtol=1e-4)


def test_weights_that_were_made_in_inference_mode_are_no_obstacle():
    with torch.inference_mode():
        model = AttentionCNN(4, width=8).eval()
    plain = AttentionCNN(4, width=8).eval()
    images = pictures(2, 32)
    mine, theirs = (explain.saliency(each, images, 1, "grad_cam") for each in (model, plain))
    torch.testing.assert_close(mine, theirs)


class Cut(Plain):
    """Cuts the way back behind its feature maps."""

    def features(self, images):
        return super().features(images).detach()


def test_a_network_that_cuts_the_way_to_its_maps_is_refused():
    refuses(lambda: explain.saliency(Cut(F.relu).eval(), pictures(), 1, "grad_cam"), "gives no gradient")
    refuses(
        lambda: explain.saliency(Cut(F.relu).eval(), pictures(), 1, "grad_cam", layer="second"),
        "gives no gradient",
    )
