"""The private names of Flower: each is there, and stands in one module of the library."""

import ast
import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from flwr.app import ConfigRecord, RecordDict

from hemafl_lib.federation import flower_private
from hemafl_lib.federation.engines.deployment import supernode

SUPERNODE = Path(flower_private.__file__).parent / "engines" / "deployment" / "supernode.py"
"""The program that is run by itself, so that it names what it changes of Flower's."""

PUBLIC = ("flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.simulation")
"""What Flower documents; of ``flwr.clientapp`` and ``flwr.serverapp`` also ``mod`` and ``strategy``."""

SERVE = "see how Flower's own program `flwr-serverapp` does the task of a run, and do the same in `Tasks`."
ANSWER = (
    "look how Flower's own `flwr-clientapp` program answers a message, and do the same in `Tasks.answer`."
)
ADMINISTER = "see how the command `flwr` asks it of a SuperLink, and do the same in `SuperLink`."

REMEDIES = {
    "flwr.clientapp.typing:Mod": "see what `ClientApp(mods=...)` takes, and name that type.",
    "flwr.clientapp.typing:ClientAppCallable": "see what a mod is given as `call_next`, and name that type.",
    "flwr.supercore.task_identity:TaskIdentity": "see what `Message(...)` needs of its process before it "
    "can be made, and set that in `identify_process` and `identity`.",
    "flwr.supercore.run:Run": "see what `Grid.set_run` takes, and make that in `RunGrid`.",
    "flwr.common.constant:ErrorCode": "see which codes Flower's own engines give to `flwr.app.Error`.",
    "flwr.common.constant:SubStatus": "see what `PushTaskOutput` is told at the end of a task.",
    "flwr.supercore.constant:TaskType": "see what a SuperExec asks for, and ask for that in `Tasks.take`.",
    "flwr.proto.runtime_pb2:AcquireTaskRequest": "see how a SuperExec takes a task; do so in `Tasks.take`.",
    "flwr.supercore.interceptors:SuperExecAuthHttpInterceptor": "see how a SuperExec proves that it knows "
    "the secret, and prove it so in `Tasks`.",
    "flwr.supercore.interceptors:RuntimeTokenHttpInterceptor": SERVE,
    "flwr.supercore.interceptors:RuntimeVersionHttpInterceptor": SERVE,
    "flwr.supercore.runtime:RuntimeHttpClient": SERVE,
    "flwr.supercore.heartbeat:HeartbeatSender": SERVE,
    "flwr.supercore.heartbeat:make_task_heartbeat_fn_http": SERVE,
    "flwr.proto.runtime_pb2:PullTaskInputRequest": SERVE,
    "flwr.proto.runtime_pb2:PushTaskOutputRequest": SERVE,
    "flwr.superlink.grid:HttpGrid": SERVE,
    "flwr.supernode.runtime.run_clientapp:pull_task_input": ANSWER,
    "flwr.supernode.runtime.run_clientapp:push_message": ANSWER,
    "flwr.supernode.runtime.run_clientapp:push_task_output": ANSWER,
    "flwr.supercore.control.control_http_client:ControlHttpClient": ADMINISTER,
    "flwr.proto.control_pb2:RegisterNodeRequest": ADMINISTER,
    "flwr.proto.control_pb2:ListNodesRequest": ADMINISTER,
    "flwr.proto.control_pb2:StartRunRequest": ADMINISTER,
    "flwr.proto.fab_pb2:Fab": ADMINISTER,
    "flwr.cli.build:build_fab_from_files": ADMINISTER,
    "flwr.supernode.cli:flower_supernode": "see what the command `flower-supernode` calls, and call that in "
    "`supernode`.",
}
"""What to do when a new Flower lacks a name, "module:name"."""


def imported_from_flower(path: Path) -> set[str]:
    """Return every name of Flower that a file imports, as "module:name"."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {f"{alias.name}:" for alias in node.names if alias.name.split(".")[0] == "flwr"}
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "flwr":
            names |= {f"{node.module}:{alias.name}" for alias in node.names}
    return names


def is_public(name: str) -> bool:
    module, _, attribute = name.partition(":")
    if module in ("flwr.clientapp.mod", "flwr.serverapp.strategy"):
        module, attribute = module.rsplit(".", 1)
    return module in PUBLIC and attribute in getattr(importlib.import_module(module), "__all__", ())


def is_there(name: str) -> bool:
    module, _, attribute = name.partition(":")
    try:
        return hasattr(importlib.import_module(module), attribute)
    except ImportError:
        return False


def test_flower_still_has_every_private_name():
    missing = {name: remedy for name, remedy in REMEDIES.items() if not is_there(name)}
    assert not missing, "\n".join(
        f"Flower has no {name} any more: {remedy}" for name, remedy in missing.items()
    )


def test_the_private_names_are_those_that_the_two_files_import():
    files = (Path(flower_private.__file__), SUPERNODE)
    private = {name for path in files for name in imported_from_flower(path) if not is_public(name)}
    assert private == set(REMEDIES)


@pytest.mark.parametrize("folder", ["hemafl_lib", "hemafl_book", "benchmarks"])
def test_no_other_module_imports_a_private_name(folder, repository):
    found = {
        f"{path.relative_to(repository)} imports {name}"
        for path in (repository / folder).rglob("*.py")
        if not path.samefile(flower_private.__file__) and not path.samefile(SUPERNODE)
        for name in imported_from_flower(path)
        if not is_public(name)
    }
    assert not found


def test_a_message_can_be_made_numbered_and_answered():
    """What is set inside Flower's own objects has the effect that it is set for."""
    from flwr.app import Message

    flower_private.identify_process(1, 1)
    message = Message(RecordDict({"config": ConfigRecord({})}), 7, "train")
    flower_private.number_message(message, "12")
    assert message.metadata.message_id == "12"
    with flower_private.identity(5, 6, 7):
        own = Message(RecordDict(), 9, "train")
    assert (own.metadata.run_id, own.metadata.src_node_id) == (6, 7)
    assert Message(RecordDict(), 9, "train").metadata.run_id != 6
    failed = flower_private.client_failure(message, "the disk is gone")
    absent = flower_private.node_absence(message, "it is away")
    assert (failed.error.reason, absent.error.reason) == ("the disk is gone", "it is away")
    assert failed.error.code != absent.error.code


def test_what_is_replaced_inside_the_clients_of_flower_is_there():
    """The connections of both are made by the library, so that they pass by any proxy and end in time."""
    from flwr.supercore.runtime import RuntimeHttpClient
    from flwr.superlink.grid import HttpGrid

    grid = HttpGrid("127.0.0.1:1", token="none")
    assert vars(grid).get("_client", "missing") is None, SERVE
    client = flower_private.connect(RuntimeHttpClient, "http://127.0.0.1:1", None)
    assert not client._client.trust_env
    client.close()


def test_flowers_loop_waits_as_the_supernode_of_the_library_tells_it(monkeypatch):
    """It waits 3 s for a message and 0.5 s for a reply by `time.sleep`, and uses nothing else of `time`."""
    loop = importlib.import_module(supernode.LOOP)
    asked = [
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(Path(loop.__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("time.")
    ]
    assert set(asked) == {"time.sleep"}, "see how Flower's SuperNode waits now, and shorten that in `Waits`."
    slept = []
    monkeypatch.setattr(supernode, "time", SimpleNamespace(sleep=slept.append))
    waits = supernode.Waits()
    for seconds in [3] * 30 + [0.5] * 15 + [3]:
        waits.sleep(seconds)
    assert slept[0] == slept[30] == slept[-1] == supernode.SHORTEST
    assert slept[29] == 3
    assert slept[44] == 0.5
    assert slept[:30] == sorted(slept[:30])
