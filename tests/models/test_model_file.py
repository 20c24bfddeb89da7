"""What a user may rely on: a model file from anybody is the right model or one sentence, and runs nothing."""

import copy
import json
import os
import pickle
import struct
import sys
import warnings

import pytest
import torch
from builders.federated import linear, same_parameters
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from hemafl_lib.data.store import read_cohort
from hemafl_lib.errors import DataError, FederationError, HemaflError, ModelError
from hemafl_lib.federation.client import Job
from hemafl_lib.federation.engines.deployment.node import stored_app
from hemafl_lib.federation.site_app import load_app, store_app
from hemafl_lib.files import read_json, write_json
from hemafl_lib.models import BACKBONES, backbone, build, load_model, save_model
from hemafl_lib.models.weights import Weights, read_shipped
from hemafl_lib.training import Recipe

RAN: list[str] = []
"""What code of this module ran although only a file named it."""


class Trap(nn.Linear):
    """A layer of a user's own, all of whose ways to run code early leave a trace."""

    def __new__(cls, *args, **kwargs):
        RAN.append("new")
        return super().__new__(cls)

    def __init__(self):
        RAN.append("init")
        super().__init__(2, 2)

    def __setstate__(self, state):
        RAN.append("setstate")

    def __setattr__(self, name, value):
        RAN.append("setattr")
        super().__setattr__(name, value)

    def register_parameter(self, name, param):
        RAN.append("register")
        super().register_parameter(name, param)


class Scaled(nn.Module):
    """A user's own layer with a setting and a tensor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.linear = nn.Linear(2, 2)

    def forward(self, features):
        return self.factor * self.linear(features)


@pytest.fixture(autouse=True)
def nothing_ran():
    RAN.clear()
    before = set(sys.modules)
    yield
    assert not {name for name in set(sys.modules) - before if name.partition(".")[0] in ("evil", "this")}


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Conv1d(3, 2, 1))


def parts(model: nn.Module, folder):
    """The description and the tensors of a model as `save_model` writes them."""
    path = folder / "whole"
    save_model(model, path)
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    head = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["model"])
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return head, {name: value.detach().clone() for name, value in tensors.items()}


def written(head, tensors, path) -> None:
    text = head if isinstance(head, str) else json.dumps(head)
    save_file(tensors, path, metadata={"model": text})


def refused(path) -> str:
    with pytest.raises(ModelError) as raised:
        load_model(path)
    sentence = str(raised.value)
    assert sentence.startswith(str(path))
    assert sentence.isprintable()
    assert len(sentence) < 1000
    return sentence


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What `parts` returns for the small model."""
    return parts(small(), tmp_path_factory.mktemp("whole"))


def layer(head, name: str) -> dict:
    return next(each for each in head["layers"] if each["name"] == name)


def named(kind: str):
    def edit(head, tensors):
        layer(head, "0")["class"] = kind

    return edit


def set_to(**values):
    def edit(head, tensors):
        layer(head, "0")["settings"].update(values)

    return edit


def strides(values):
    def edit(head, tensors):
        head["strides"]["0.weight"] = values

    return edit


def with_layers(edit_layers):
    def edit(head, tensors):
        edit_layers(head["layers"])

    return edit


def nested(depth: int):
    value = "1"
    for _ in range(depth):
        value = f'{{"list": [{value}]}}'
    return value


def crafted(fault: str, edit, match: str):
    return pytest.param(edit, match, id=fault.replace(" ", "-")[:60])


CRAFTED = [
    crafted("a module that acts on import", named("this:Layer"), "none of PyTorch"),
    crafted("a function of the system", named("os:system"), "none of PyTorch"),
    crafted("a program starter", named("subprocess:Popen"), "none of PyTorch"),
    crafted("builtins", named("builtins:eval"), "none of PyTorch"),
    crafted("a module of the library that is no layer's", named("hemafl_lib.cli:app"), "none of PyTorch"),
    crafted("a home's name as a mere beginning", named("torch.nn.modules_evil:Linear"), "none of PyTorch"),
    crafted("an alias in a home", named("hemafl_lib.models.model_file:nn"), "none of PyTorch"),
    crafted("a function in a home", named("hemafl_lib.models.model_file:load_model"), "none of PyTorch"),
    crafted(
        "a class that a home only imports", named("hemafl_lib.models.model_file:Tensor"), "none of PyTorch"
    ),
    crafted("an attribute of a class", named("torch.nn.modules.linear:Linear.forward"), "none of PyTorch"),
    crafted("a layer with code of its own", named(f"{__name__}:Trap"), "none of PyTorch"),
    crafted("a traced module", named("torch.fx.graph_module:GraphModule"), "none of PyTorch"),
    crafted("a scripted module", named("torch.jit._script:RecursiveScriptModule"), "none of PyTorch"),
    crafted("a relative path", named("..os:system"), "none of PyTorch"),
    crafted("no class", named(""), "none of PyTorch"),
    crafted("a class with an escape", named("\x1b[2Jevil\u202e:Layer"), "none of PyTorch"),
    crafted("a class that is a number", named(3), "layers.1.class"),
    crafted("forward as a setting", set_to(forward="x"), "'0.forward' is no setting"),
    crafted("hooks as a setting", set_to(_forward_hooks={"list": []}), "'0._forward_hooks' is no setting"),
    crafted("modules as a setting", set_to(_modules=None), "'0._modules' is no setting"),
    crafted("the class as a setting", set_to(__class__="x"), "'0.__class__' is no setting"),
    crafted("a call as a setting", set_to(__call__="x"), "'0.__call__' is no setting"),
    crafted("a method of its class", set_to(reset_parameters=1), "'0.reset_parameters' is no setting"),
    crafted("moving as a setting", set_to(to=1), "'0.to' is no setting"),
    crafted("a setting that is an object", set_to(in_features={"object": 1}), "layers.1.settings"),
    crafted("a setting of a hundred thousand bits", set_to(in_features=10**30000), "."),
    crafted("a setting of 64 bits and one", set_to(in_features=2**63), "layers.1.settings"),
    crafted("a setting that is not a number", set_to(in_features=float("nan")), "."),
    crafted("a setting that is infinite", set_to(in_features=float("inf")), "."),
    crafted("a tensor that lies in a terabyte", strides([10**12, 1]), "cannot lie in memory"),
    crafted("a tensor that overlaps", strides([0, 0]), "cannot lie in memory"),
    crafted("a tensor that partly overlaps", strides([1, 1]), "cannot lie in memory"),
    crafted("negative strides", strides([-2, 1]), "greater than or equal to 0"),
    crafted("strides beyond 64 bits", strides([2**64, 1]), "less than"),
    crafted("too few strides", strides([1]), "."),
    crafted("too many strides", strides([6, 2, 1]), "."),
    crafted("strides as text", strides("21"), "valid array"),
    crafted("strides of no tensor", lambda h, t: h["strides"].update(more=[1]), "how each tensor lies"),
    crafted("a missing tensor", lambda h, t: t.pop("0.bias"), "'0.bias' is missing"),
    crafted("a tensor too many", lambda h, t: t.update(more=torch.ones(1)), "'more' is not of any layer"),
    crafted("a layer twice", with_layers(lambda ls: ls.append(ls[1])), "'0' has no place"),
    crafted("a second root", with_layers(lambda ls: ls.append(ls[0])), "'' has no place"),
    crafted("a layer without its parent", with_layers(lambda ls: ls.pop(0)), "'0' has no place"),
    crafted("a root that is missing", with_layers(lambda ls: ls.clear()), "no layer"),
    crafted("a layer called forward", lambda h, t: layer(h, "2").update(name="forward"), "."),
    crafted("a layer without a name", lambda h, t: layer(h, "2").update(name="0."), "."),
    crafted(
        "layers a thousand deep",
        with_layers(
            lambda ls: ls.extend({**ls[0], "name": ".".join(["2"] * depth)} for depth in range(2, 1000))
        ),
        "more than 100 deep",
    ),
    crafted(
        "a million layers",
        with_layers(lambda ls: ls.extend({**ls[0], "name": str(n)} for n in range(3, 20_000))),
        "at most 10000",
    ),
    crafted(
        "a parameter with a method's name", lambda h, t: layer(h, "0")["parameters"].update(half=None), "half"
    ),
    crafted("a parameter twice", lambda h, t: layer(h, "0")["buffers"].update(weight=None), "weight"),
    crafted("a trained counter", lambda h, t: layer(h, "1").update(kind_of_trick(h)), "."),
    crafted("a layer that says more", lambda h, t: layer(h, "0").update(hooks=1), "layers.1.hooks"),
    crafted("a layer without settings", lambda h, t: layer(h, "0").pop("settings"), "layers.1.settings"),
    crafted(
        "a convolution that lacks its padding",
        lambda h, t: layer(h, "2")["settings"].pop("padding"),
        "lacks a",
    ),
    crafted("training as a number", lambda h, t: layer(h, "0").update(training=1), "layers.1.training"),
    crafted("layers as a table", lambda h, t: h.update(layers={}), "layers"),
    crafted("a head that is a list", None, "its description"),
]


def kind_of_trick(head) -> dict:
    """Batch norm whose integer counter of batches would be trained."""
    norm = dict(layer(head, "1"))
    norm["buffers"] = {k: v for k, v in norm["buffers"].items() if k != "num_batches_tracked"}
    norm["parameters"] = {**norm["parameters"], "num_batches_tracked": True}
    return norm


@pytest.mark.survives(
    "A model file that names a class, module or function outside the libraries' layers",
    "`load_model` refuses the file in one sentence and runs nothing of it",
)
@pytest.mark.survives(
    "A model file whose settings, strides, names or counts were crafted to run code or to fill the memory",
    "`load_model` names what is wrong in one sentence; nothing is imported, run or allocated for it",
)
@pytest.mark.parametrize(("edit", "match"), CRAFTED)
def test_a_crafted_file_is_one_sentence(edit, match, tmp_path):
    head, tensors = parts(small(), tmp_path)
    if edit is None:
        head = []
    else:
        edit(head, tensors)
    try:
        text = json.dumps(head)
    except ValueError:  # Python itself writes no number of so many digits
        text = json.dumps({**head, "layers": []}).replace("[]", "[" + "9" * 30000 + "]", 1)
    written(text, tensors, tmp_path / "crafted")
    assert match in refused(tmp_path / "crafted")
    assert not RAN


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"layers": ' + nested(100_000) + "}", id="nested a hundred thousand deep"),
        pytest.param('{"layers": [], "layers": {}, "strides": {}}', id="a name twice"),
        pytest.param("[" + "1," * 6_000_000 + "1]", id="twelve million characters"),
        pytest.param("", id="empty"),
        pytest.param("{" * 10, id="no JSON"),
        pytest.param('"\\ud800"', id="half a character"),
    ],
)
def test_a_description_that_is_no_json_of_a_model_is_one_sentence(text, tmp_path):
    written(text, {"w": torch.ones(1)}, tmp_path / "crafted")
    refused(tmp_path / "crafted")


def truncated(path) -> None:
    save_model(small(), path)
    path.write_bytes(path.read_bytes()[:-5])


def header_of_exabytes(path) -> None:
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")


def tensor_of_exabytes(path) -> None:
    shape = '{"w": {"dtype": "F32", "shape": [0, 4611686018427387904], "data_offsets": [0, 0]}, '
    text = (shape + '"__metadata__": {"model": "{}"}}').encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)


def unknown_type(path) -> None:
    text = b'{"w": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}'
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0\0\0")


class Executed:
    def __reduce__(self):
        return RAN.append, ("pickle",)


@pytest.mark.survives(
    "A pickle, a truncated file, a folder or a pipe in place of a model file",
    "`load_model` says in one sentence that it is no model; a pickle is not opened and a pipe not waited for",
)
@pytest.mark.parametrize(
    "make",
    [
        truncated,
        header_of_exabytes,
        tensor_of_exabytes,
        unknown_type,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(pickle.dumps(Executed())),
        lambda path: torch.save({"w": torch.ones(2)}, path),
        lambda path: path.mkdir(),
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path),
        lambda path: save_file({"w": torch.ones(2)}, path),
    ],
    ids=lambda make: make.__name__,
)
def test_what_is_no_model_file_is_one_sentence(make, tmp_path):
    make(tmp_path / "file")
    refused(tmp_path / "file")
    assert not RAN


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["0", "tuple"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places(value, path=()):
    """The way to every value in a description."""
    yield path
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in steps:
        yield from places(inner, (*path, key))


@pytest.mark.survives(
    "A model file in which any one value was changed into any other",
    "It is the same model, another model of the libraries' layers, or one sentence",
)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_value_in_the_place_of_any_other(data, whole, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    head, tensors = copy.deepcopy(whole)
    *way, last = data.draw(st.sampled_from([place for place in places(head) if place]))
    holder = head
    for step in way:
        holder = holder[step]
    holder[last] = data.draw(JSON)
    written(head, tensors, folder / "fuzzed")
    check_outcome(folder / "fuzzed")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_byte_in_the_place_of_any_other(data, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    save_model(small(), folder / "whole")
    content = bytearray((folder / "whole").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "fuzzed").write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2]))])
    check_outcome(folder / "fuzzed")


def check_outcome(path) -> None:
    """A model of PyTorch's layers, or a sentence; any other error fails the test."""
    try:
        model = load_model(path)
    except ModelError:
        refused(path)
    else:
        assert repr(model)
        assert all(type(each).__module__.startswith("torch.nn.modules.") for each in model.modules())


@pytest.mark.survives(
    "A hospital that wants to load a model with a layer of its own",
    "The sentence says how: `load_model(path, allow=[MyNet])`; its constructor is not called",
)
def test_a_layer_of_your_own_is_read_if_you_allow_it(tmp_path):
    model = Scaled(0.5)
    save_model(model, tmp_path / "mine")
    with pytest.raises(ModelError, match=r"allow=\[\.\.\.\]"):
        load_model(tmp_path / "mine")
    again = load_model(tmp_path / "mine", allow=[Scaled])
    assert type(again) is Scaled
    assert again.factor == 0.5
    assert same_parameters(again, model)


def test_an_allowed_layer_runs_nothing_while_it_is_read(tmp_path):
    save_model(Trap(), tmp_path / "trap")
    RAN.clear()
    load_model(tmp_path / "trap", allow=[Trap])
    assert not RAN


def test_a_tensor_that_is_a_view_comes_back_whole(tmp_path):
    model = nn.Module()
    model.register_buffer("spread", torch.arange(3.0).expand(2, 3))
    model.register_buffer("gaps", torch.arange(8.0)[::2])
    save_model(model, tmp_path / "views")
    again = load_model(tmp_path / "views")
    assert torch.equal(again.spread, model.spread)
    assert torch.equal(again.gaps, model.gaps)


def test_a_model_that_could_not_be_read_again_is_not_written(tmp_path):
    model = linear()
    model.best = float("inf")
    with pytest.raises(ModelError, match=r"cannot be written.*settings\.best: .*finite"):
        save_model(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_comes_back(name, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = backbone(name, 3, pretrained=False)
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert repr(again) == repr(model)
    assert same_parameters(again, model)


# --- what a site is told ----------------------------------------------------------------------------


def described(value) -> dict:
    return {"class": "hemafl_lib.training:Recipe", "settings": value}


@pytest.mark.survives(
    "A description of a site's task that names another class, a path outside its folder, or odd values",
    "The node refuses it in one sentence; only recipes, trainers, mods and jobs of the library are ever made",
)
@pytest.mark.parametrize(
    "content",
    [
        {"class": "subprocess:Popen", "settings": {"args": "id"}},
        {"class": "hemafl_lib.federation.engines.deployment.keeper:keep", "settings": {}},
        {"class": "hemafl_lib.privacy.membership:Audit", "settings": {}},
        {"class": "hemafl_lib.training:Recipe.__init__", "settings": {}},
        {"class": ["hemafl_lib.training:Recipe"], "settings": {}},
        described({"no": 1}),
        described({"loss": "hinge"}),
        described({"learning_rate": "1"}),
        described({"learning_rate": 1e400}),
        described([]),
        described({"augmentation": described({})}),
        {"model": "../whole"},
        {"model": "/etc/passwd"},
        {"model": "missing"},
        {"model": 3},
        {"tuple": "text"},
        {"list": [], "tuple": []},
        {"set": []},
        {},
        [],
        3,
        None,
        {"class": "hemafl_lib.federation.client:Job", "settings": {"model": "x", "recipe": 1, "seed": 0}},
    ],
    ids=str,
)
def test_a_crafted_description_is_one_sentence(content, tmp_path):
    (tmp_path / "site-app.json").write_text(json.dumps(content))
    with pytest.raises(HemaflError) as raised:
        load_app(tmp_path)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 700


def test_a_node_takes_a_layer_of_your_own_if_its_config_names_it(tmp_path):
    job = Job(Scaled(0.5), Recipe(), 0)
    store_app(job, tmp_path)
    with pytest.raises(ModelError, match="none of PyTorch"):
        stored_app(str(tmp_path))
    assert job.own_layers() == [f"{__name__}:Scaled"]
    assert stored_app(str(tmp_path), ",".join(job.own_layers()))
    assert type(load_app(tmp_path, [Scaled]).model) is Scaled


def test_no_more_than_the_description_says_is_taken(tmp_path):
    store_app(Job(linear(), Recipe(), 0), tmp_path)
    content = read_json(tmp_path / "site-app.json")
    write_json(tmp_path / "site-app.json", {**content, "run": "id"})
    with pytest.raises(FederationError, match="describes no value"):
        load_app(tmp_path)


# --- weights ----------------------------------------------------------------------------------------


@pytest.mark.survives(
    "Pretrained weights in the cache that are damaged, a pickle, or of another network",
    "The model is refused with the file's name and the remedy; a pickle is not opened",
)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"\x08\0\0\0\0\0\0\0{}"),
        lambda path: path.write_bytes(pickle.dumps(Executed())),
        lambda path: torch.save({"w": torch.ones(2)}, path),
        lambda path: save_file({"w": torch.ones(2)}, path),
    ],
    ids=["damaged", "pickle", "torch", "another network"],
)
def test_weights_that_cannot_be_read_are_named(spoil, tmp_path):
    file = tmp_path / "model.safetensors"
    spoil(file)
    row = BACKBONES["mobilenetv2"]
    with pytest.raises(ModelError, match=f"the weights {file} cannot be read"):
        build(row, Weights("pretrained", {"file": str(file)}), num_classes=3)
    assert not RAN


def test_weights_that_lack_a_layer_are_not_taken(tmp_path):
    """For another number of classes timm reads weights without demanding all of them."""
    row = BACKBONES["mobilenetv2"]
    state = build(row, None, num_classes=5).state_dict()
    save_file(state, tmp_path / "whole.safetensors")
    assert build(row, Weights("pretrained", {"file": str(tmp_path / "whole.safetensors")}), num_classes=3)
    save_file(
        {name: value for name, value in state.items() if "conv_stem" not in name},
        tmp_path / "less.safetensors",
    )
    with pytest.raises(ModelError, match=r"'conv_stem\.weight' and 0 others are not in it"):
        build(row, Weights("pretrained", {"file": str(tmp_path / "less.safetensors")}), num_classes=3)


@pytest.mark.parametrize("content", [[1, 2], {"w": 3}, Executed()], ids=["list", "number", "code"])
def test_shipped_weights_are_a_table_of_tensors(content, tmp_path):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ModelError, match="install its package again"):
        read_shipped("mobilenetv2_100", tmp_path / "weights.pth")
    assert not RAN


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 10_000, "{", "\ud800", ""], ids=lambda text: text[:3])
def test_json_that_cannot_be_read_is_one_sentence(text, tmp_path):
    (tmp_path / "file.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(DataError, match="is not valid JSON"):
        read_json(tmp_path / "file.json")


@pytest.mark.parametrize("head", [[], {"texts": 3}, {"texts": [], "rest": {}}, "x", None], ids=str)
def test_a_crafted_cohort_is_one_sentence(head, tmp_path):
    save_file({"w": torch.ones(1)}, tmp_path / "cohort", metadata={"cohort": json.dumps(head)})
    with pytest.raises(DataError, match="is damaged"):
        read_cohort(tmp_path / "cohort")


def test_a_pipe_is_no_cohort(tmp_path):
    os.mkfifo(tmp_path / "cohort")
    with pytest.raises(DataError, match="is no file"):
        read_cohort(tmp_path / "cohort")
