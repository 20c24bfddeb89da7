"""The Ray engine ends what it has started, also when the start fails half-way."""

import psutil
import pytest

from hemafl_lib.federation.engines.ray import ray_ended
from hemafl_lib.federation.quiet import without_tips


@pytest.mark.survives("Ray does not start", "a sentence, and no process is left")
@pytest.mark.ray
def test_a_start_that_fails_leaves_no_process(monkeypatch):
    """The control store and its monitor have come up when the last of Ray's own processes fails."""
    import ray
    from ray._private.node import Node

    begun = []

    def fail(node):
        begun.extend(psutil.Process().children())
        raise RuntimeError("the raylet does not come up")

    before = psutil.Process().children()
    monkeypatch.setattr(Node, "start_ray_processes", fail)
    with pytest.raises(RuntimeError, match="does not come up"), without_tips(), ray_ended():
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    started = [process for process in begun if process not in before]
    assert started
    assert not [process.pid for process in started if process.is_running()]
