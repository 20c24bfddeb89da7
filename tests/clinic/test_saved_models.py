"""A saved model is the same model wherever it is read, and a folder of anything else is refused."""

import json

import pytest
import torch
from builders.clinic import CLASSES, SIZE, a_card, a_model, a_scope, images
from safetensors.torch import load_file, save_file
from torch import nn

from hemafl_lib import clinic
from hemafl_lib.clinic.rounding import to_tensors
from hemafl_lib.errors import DataError, ModelError
from hemafl_lib.models import AttentionCNN

NETWORKS = [
    {},
    {"norm": "group"},
    {"norm": "none", "attention": "none"},
    {"norm": "frozen", "attention": "eca", "width": 8},
    {"attention": "cbam", "width": 4},
]


@pytest.fixture
def folder(tmp_path):
    """A saved model."""
    clinic.save(a_model(), tmp_path / "model")
    return tmp_path / "model"


def logits(model):
    return clinic.answer(model, images(5)).logits


# Eight bits


@pytest.mark.parametrize("settings", NETWORKS)
def test_a_loaded_model_answers_as_the_saved_one_to_the_bit(settings, tmp_path):
    model = a_model(a_card(scope=(a_scope(0.1),)), **settings)
    clinic.save(model, tmp_path)
    loaded = clinic.load(tmp_path)
    assert torch.equal(logits(loaded), logits(model))
    assert loaded.card == model.card
    assert loaded.settings == model.settings


def test_rounding_what_was_rounded_changes_nothing():
    model = a_model()
    again = clinic.rounded(model.network)
    assert all(
        torch.equal(value, again.state_dict()[name]) for name, value in model.network.state_dict().items()
    )


def test_a_rounded_weight_is_at_most_half_a_step_away():
    weight = AttentionCNN(3).head.weight
    numbers, scale = clinic.quantise(weight)
    assert numbers.dtype == torch.int8
    assert scale.shape == (3,)
    assert (clinic.restore(numbers, scale) - weight).abs().amax(dim=1).le(scale / 2 + 1e-9).all()


def test_a_convolution_has_fewer_levels():
    numbers, _ = clinic.quantise(AttentionCNN(3).blocks.get_submodule("0.conv").weight)
    assert numbers.flatten(1).abs().amax(dim=1).tolist() == [31] * 16


def test_every_channel_uses_all_levels_and_a_channel_of_zeros_stays_zero():
    weight = torch.tensor([[3.0, -1.0], [0.0, 0.0], [1e-30, 1e-31]])
    numbers, scale = clinic.quantise(weight)
    assert numbers.tolist() == [[127, -42], [0, 0], [127, 13]]
    assert clinic.restore(numbers, scale)[1].tolist() == [0.0, 0.0]


def test_a_weight_is_the_same_number_in_float32_and_in_float64():
    numbers, scale = clinic.quantise(torch.randn(40, 50, generator=torch.Generator().manual_seed(0)))
    exact = numbers.double() * scale.double()[:, None]
    assert torch.equal(clinic.restore(numbers, scale).double(), exact)


def test_a_saved_model_is_small(folder):
    assert sum(file.stat().st_size for file in folder.iterdir()) < 60_000


# Other networks


def test_a_network_of_other_layers_is_saved_to_the_bit(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, len(CLASSES)))
    model = clinic.as_saved(network, SIZE, a_card())
    clinic.save(model, tmp_path)
    assert torch.equal(logits(clinic.load(tmp_path)), logits(model))


def test_a_network_of_other_layers_has_no_page(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, len(CLASSES)))
    model = clinic.as_saved(network, SIZE, a_card())
    for target in ("page", "onnx"):
        with pytest.raises(ModelError, match="AttentionCNN"):
            clinic.export(model, target, tmp_path / "file")


# What is no saved model


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere does not exist; name the folder of a saved model"):
        clinic.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["card.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=rf"{name} does not exist"):
        clinic.load(folder)


def test_other_weights_than_the_cards_are_refused(folder):
    clinic.save(a_model(seed=1), folder.parent / "other")
    (folder.parent / "other" / "model.safetensors").replace(folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"is not the file that .*card.json was written for"):
        clinic.load(folder)


def change(folder, **fields):
    """Write other values into a card, and the checksum that fits the weights."""
    path = folder / "card.json"
    document = json.loads(path.read_text())
    for name, value in fields.items():
        *steps, last = name.split("__")
        place = document
        for step in steps:
            place = place[step]
        place[last] = value
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"format": "something else"}, "'format'"),
        ({"version": 2}, "'version'"),
        ({"network__width": 10**9}, "'network.AttentionCNN.width'"),
        ({"network__size": "64"}, "'network.AttentionCNN.size'"),
        ({"network__classes": 4}, "'classes' must name each class"),
        ({"card__temperature": 0.0}, "'card.temperature'"),
        ({"card__temperature": float("inf")}, "no card"),
        ({"card__temperature": 1e-300}, "'card.temperature'"),
        ({"card__classes": ["monocyte", "monocyte", "neutrophil"]}, "a name of its own for each class"),
        ({"card__surprise": 1}, "'card.surprise'"),
        (
            {"card__scope": [{**json.loads(a_scope(1.0).model_dump_json()), "mean": [0.0]}]},
            "as long as 'mean'",
        ),
    ],
)
def test_a_card_that_says_what_cannot_be_is_refused_in_a_sentence(folder, fields, says):
    change(folder, **fields)
    with pytest.raises(ModelError, match=says) as raised:
        clinic.load(folder)
    assert "save the model again." in str(raised.value)
    assert len(str(raised.value)) < 600


UNSEEN = {
    "a soft hyphen": "fede\u00adrated",
    "a blank of no width": "federated\u200b",
    "another blank": "one\u00a0hospital",
    "a filler": "federated\u3164",
    "a joiner": "federated\u034f",
    "a choice of form": "federated\ufe0f",
    "a choice of form beyond": "federated\U000e0100",
    "a blank cell of braille": "federated\u2800",
    "a blank at the end": "federated ",
    "two blanks": "one  hospital",
    "a turn of the writing": "\u202edetaredef",
    "an escape": "federated\x1b[2J",
    "a line end": "federated\nhospital",
}


@pytest.mark.parametrize("name", UNSEEN.values(), ids=UNSEEN)
@pytest.mark.parametrize("place", ["name", "family", "arm", "classes.0", "sites.0"])
def test_a_name_that_cannot_be_told_from_another_is_refused(folder, place, name):
    field, _, number = place.partition(".")
    change(folder, **{f"card__{field}": [name, *CLASSES[1:]] if number else name})
    with pytest.raises(ModelError, match=rf"'card.{place}': it must be letters that can be seen") as raised:
        clinic.load(folder)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("letter", ["\x1b", "\x07", "\r", "\u202e", "\u200b", "\u2028", "\x9b"])
def test_a_text_that_steers_a_terminal_or_turns_the_writing_is_refused(folder, letter):
    change(folder, card__title=f"Cells{letter} of a test")
    with pytest.raises(ModelError, match=r"'card.title': it must be letters, blanks and line ends"):
        clinic.load(folder)


def test_names_and_texts_of_any_language_are_read(folder):
    change(
        folder,
        card__arm="Hôpital Nº 1, Łódź (研究所)",
        card__about="Trained on 10\u202f000 cells,\n95\u00a0% of",
    )
    assert clinic.load(folder).card.arm == "Hôpital Nº 1, Łódź (研究所)"


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"format": "hemafl saved model"}', "\x00\x01"])
def test_a_file_that_is_no_card_is_refused(folder, text):
    (folder / "card.json").write_text(text)
    with pytest.raises(ModelError, match="is no card of a saved model"):
        clinic.load(folder)


def test_a_card_that_is_no_text_is_refused(folder):
    (folder / "card.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match=r"card.json cannot be read"):
        clinic.load(folder)


def retell(folder, tensors):
    """Put other tensors beside a card, with their checksum."""
    from hemafl_lib.files import sha256

    save_file(tensors, folder / "model.safetensors")
    change(folder, weights=sha256(folder / "model.safetensors"))


@pytest.mark.parametrize("what", ["missing", "foreign", "shape", "dtype", "nan"])
def test_tensors_that_do_not_fit_the_card_are_refused(folder, what):
    tensors = load_file(folder / "model.safetensors")
    if what == "missing":
        del tensors["head.weight.scale"]
    elif what == "foreign":
        tensors["extra"] = torch.zeros(1)
    elif what == "shape":
        tensors["head.bias"] = torch.zeros(7)
    elif what == "dtype":
        tensors["head.weight"] = tensors["head.weight"].float()
    else:
        tensors["head.bias"][0] = float("nan")
    retell(folder, tensors)
    with pytest.raises(ModelError, match=r"does not fit the network of the card|not finite"):
        clinic.load(folder)


def test_weights_that_are_no_safetensors_are_refused(folder):
    from hemafl_lib.files import sha256

    (folder / "model.safetensors").write_bytes(b"no tensors")
    change(folder, weights=sha256(folder / "model.safetensors"))
    with pytest.raises(ModelError, match=r"model.safetensors cannot be read"):
        clinic.load(folder)


def test_a_model_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        clinic.save(a_model(), tmp_path / "file" / "model")


def test_counters_are_not_saved():
    assert not any("num_batches_tracked" in name for name in to_tensors(AttentionCNN(3)))
