"""What a site gets is its own: copies of models and messages, and arrays as they travel."""

import copy
from io import BytesIO
from threading import Lock

import numpy as np
import pytest
import torch
from builders.federated import linear, pictures, sites, small_cnn
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, nn

from hemafl_lib import federation
from hemafl_lib.federation.engines.local import LocalGrid
from hemafl_lib.federation.exchange import exchanged_names, get_arrays, set_arrays, to_record, write_array
from hemafl_lib.federation.model_copy import copy_model
from hemafl_lib.models import AttentionCNN, DeepSurv, with_norm
from hemafl_lib.training import Recipe, fit, predict

# --- models -----------------------------------------------------------------------------------------


class Counting(nn.Module):
    """A layer that keeps more than tensors: a count, a list, and a buffer that no state dict holds."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.seen = 0, []
        self.register_buffer("scale", torch.ones(1), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs, larger at each call."""
        self.calls += 1
        self.seen.append(self.calls)
        self.scale += 1
        return inputs * self.calls * self.scale


class OwnCopy(nn.Linear):
    """A layer that says itself how it is copied."""

    def __deepcopy__(self, memo: dict) -> "OwnCopy":
        """Return a layer of zeros."""
        copied = OwnCopy(self.in_features, self.out_features)
        for value in copied.parameters():
            nn.init.zeros_(value)
        return copied


def tied() -> nn.Module:
    """Two layers with one weight, and one layer that is called twice."""
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    model[1].weight = model[0].weight
    return nn.Sequential(model, model[0], nn.Linear(6, 2))


def channels_last() -> nn.Module:
    """A model whose arrays lie in memory in another order."""
    return small_cnn().to(memory_format=torch.channels_last)


def partly_frozen() -> nn.Module:
    """A model of which only the head is trained, in evaluation mode."""
    model = linear().eval()
    model[0].requires_grad_(False)
    return model


MODELS = {
    "linear": (linear, (5, 6)),
    "attention": (lambda: AttentionCNN(4), (2, 3, 32, 32)),
    "group norm": (lambda: with_norm(small_cnn(), "group"), (2, 3, 16, 16)),
    "survival": (lambda: DeepSurv(6), (5, 6)),
    "channels last": (channels_last, (2, 3, 16, 16)),
    "tied": (tied, (5, 6)),
    "frozen": (partly_frozen, (5, 6)),
    "counting": (lambda: nn.Sequential(nn.Linear(6, 2), Counting()), (5, 6)),
    "reparametrised": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 2)), (5, 6)),
    "own copy": (lambda: nn.Sequential(OwnCopy(6, 2)), (5, 6)),
    "transformer": (lambda: nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0), (5, 3, 6)),
}


@pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)
def test_a_copy_is_what_deepcopy_makes(make, shape):
    model = make()
    copied, expected = copy_model(model), copy.deepcopy(model)
    assert type(copied) is type(expected)
    assert str(copied) == str(expected)
    for mine, theirs in (
        (copied.named_parameters, expected.named_parameters),
        (copied.named_buffers, expected.named_buffers),
    ):
        got, wanted = dict(mine()), dict(theirs())
        assert list(got) == list(wanted)
        for name, value in wanted.items():
            assert torch.equal(got[name], value)
            assert got[name].stride() == value.stride()
            assert type(got[name]) is type(value)
            assert got[name].requires_grad == value.requires_grad
    assert [layer.training for layer in copied.modules()] == [layer.training for layer in expected.modules()]
    inputs = torch.rand(shape)
    assert torch.equal(copied(inputs), expected(inputs))


@pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)
def test_what_happens_to_a_copy_is_not_seen_in_the_model(make, shape):
    model = make()
    before = copy.deepcopy(model.state_dict())
    copied = copy_model(model)
    own = {value.untyped_storage().data_ptr() for value in (*copied.parameters(), *copied.buffers())}
    assert not own & {value.untyped_storage().data_ptr() for value in (*model.parameters(), *model.buffers())}
    copied.train()
    copied(torch.rand(shape)).sum().backward()
    copied.register_forward_hook(lambda *_: None)
    with torch.no_grad():
        for value in copied.parameters():
            value += 1
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert all(value.grad is None for value in model.parameters())
    assert not model._forward_hooks


def test_settings_that_change_are_copied():
    model = nn.Sequential(nn.Linear(6, 2), Counting())
    copied = copy_model(model)
    copied(torch.rand(1, 6))
    assert (copied[1].calls, copied[1].seen, copied[1].scale.item()) == (1, [1], 2.0)
    assert (model[1].calls, model[1].seen, model[1].scale.item()) == (0, [], 1.0)


def test_ties_stay_within_the_copy():
    copied = copy_model(tied())
    assert copied[0][0] is copied[1]
    assert copied[0][0].weight is copied[0][1].weight


def test_hooks_go_with_the_copy():
    model = linear()
    model.register_forward_hook(lambda layer, inputs, output: output + 1)
    inputs = torch.rand(5, 6)
    assert torch.equal(copy_model(model).eval()(inputs), copy.deepcopy(model).eval()(inputs))


def test_a_recurrent_layer_reads_the_weights_of_its_copy():
    """PyTorch's recurrent layers hold their weights a second time, in a list beside the parameters."""
    model = nn.LSTM(3, 4)
    copied, inputs = copy_model(model), torch.rand(2, 1, 3)
    assert torch.equal(copied(inputs)[0], model(inputs)[0])
    set_arrays(
        copied, {name: np.zeros(value.shape, "float32") for name, value in copied.state_dict().items()}
    )
    assert not copied(inputs)[0].any()
    assert model(inputs)[0].any()


def test_a_copy_that_cannot_be_made_raises_as_deepcopy_does():
    model = linear()
    model.lock = Lock()
    with pytest.raises(TypeError, match="lock"):
        copy_model(model)


def test_training_a_copy_gives_the_same_bits():
    site, recipe = sites(1, pictures)[0], Recipe(batch_size=8, proximal=0.1)
    copies = [copy_model(small_cnn()), copy.deepcopy(small_cnn())]
    for model in copies:
        fit(model, site.train, recipe, torch.Generator().manual_seed(0))
    scores = [predict(model, site.test) for model in copies]
    assert torch.equal(*scores)


@pytest.mark.survives(
    "A network's layer keeps something of the images that it has seen", "it does not pass to another hospital"
)
def test_what_a_layer_keeps_does_not_pass_from_site_to_site():
    """Sites that share a thread would otherwise see the calls of those before them."""
    model = nn.Sequential(nn.Linear(6, 2), Counting())
    runs = [
        federation.run(sites(5), model=model, rounds=2, recipe=Recipe(batch_size=8), workers=workers)
        for workers in (1, 2, 5)
    ]
    alone = federation.run(sites(1), model=model, rounds=2, recipe=Recipe(batch_size=8))
    first = [
        run.history.query("site == 'site 0' and round == 1").value.tolist()[:3] for run in [*runs, alone]
    ]
    assert len({run.hash for run in runs}) == 1
    assert first[0] == first[1] == first[2] == first[3]
    assert model[1].calls == 0


# --- messages ---------------------------------------------------------------------------------------


@pytest.mark.survives(
    "A hospital's program changes the message that it was given", "no other hospital sees the change"
)
def test_a_client_that_changes_its_message_changes_nobody_elses():
    def greedy(message: Message, context: Context) -> Message:
        content = message.content
        seen = {
            "sum": float(content["arrays"]["w"].numpy().sum()),
            "arrays": len(content["arrays"]),
            "records": len(content),
            "round": content["config"]["round"],
        }
        content["arrays"]["w"].data = to_record({"w": np.full(3, 9.0)})["w"].data
        content["arrays"].pop("b")
        content["config"]["round"] = 5
        content["more"] = ConfigRecord()
        return Message(RecordDict({"seen": MetricRecord(seen)}), reply_to=message)

    app = ClientApp()
    app.train()(greedy)
    sent = RecordDict(
        {
            "arrays": to_record({"w": np.ones(3), "b": np.zeros(1)}),
            "config": ConfigRecord({"round": 1}),
        }
    )
    grid = LocalGrid(app, 4, workers=1)
    messages = [grid.create_message(sent, "train", node, "1") for node in grid.get_node_ids()]
    replies = grid.send_and_receive(messages)
    grid.close()
    assert [dict(reply.content["seen"]) for reply in replies] == [
        {"sum": 3.0, "arrays": 2, "records": 2, "round": 1}
    ] * 4
    assert list(sent) == ["arrays", "config"]
    assert sent["config"]["round"] == 1
    assert sent["arrays"]["w"].numpy().sum() == 3.0
    assert "b" in sent["arrays"]


# --- arrays -----------------------------------------------------------------------------------------


def as_saved(value: np.ndarray) -> bytes:
    """What NumPy itself writes."""
    file = BytesIO()
    np.save(file, value, allow_pickle=False)
    return file.getvalue()


@given(
    arrays.arrays(
        st.one_of(arrays.floating_dtypes(), arrays.integer_dtypes(), arrays.boolean_dtypes()),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    st.sampled_from(["C", "F", "reversed", "every other"]),
)
def test_an_array_travels_as_flower_and_numpy_write_it(value, layout):
    if layout in "CF":
        value = np.asarray(value, order=layout)
    elif value.ndim:
        value = value[::-1] if layout == "reversed" else value[..., ::2]
    written, flowers = write_array(value), Array(value)
    assert written == flowers
    assert written.data == as_saved(value)
    assert written.object_id == flowers.object_id


def test_an_array_of_python_objects_is_refused():
    with pytest.raises(ValueError, match="allow_pickle"):
        to_record({"w": np.array([{}], dtype=object)})


def test_flower_reads_the_record():
    sent = get_arrays(small_cnn(), exchanged_names(small_cnn()))
    record = to_record(sent)
    assert record == ArrayRecord({name: Array(value) for name, value in sent.items()})
    received = record.to_torch_state_dict()
    assert all(torch.equal(received[name], torch.from_numpy(value)) for name, value in sent.items())
