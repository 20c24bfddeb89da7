"""While some workers of the tests wait for other programs, the others compute."""

from types import SimpleNamespace

import conftest
import pytest


class Worker:
    """What a scheduler knows of a worker; it keeps the numbers of the tests that it was sent."""

    def __init__(self, name):
        self.gateway, self.shutting_down, self.sent = SimpleNamespace(id=name), False, []

    def send_runtest_some(self, numbers):
        self.sent += numbers

    def shutdown(self):
        self.shutting_down = True


def dealt(monkeypatch, workers: int, modules: list[str], tests: int = 5) -> tuple[conftest.Dealer, list[str]]:
    """The scheduler after the first deal, and the module that each worker begins with."""
    monkeypatch.setattr(conftest, "waits", lambda module: module.startswith("waits"))
    monkeypatch.setattr("xdist.scheduler.loadscope.parse_tx_spec_config", lambda _: range(workers))
    option = SimpleNamespace(loadscopereorder=False)
    dealer = conftest.Dealer(SimpleNamespace(option=option, hook=None), SimpleNamespace(loadscopesched=print))
    collected = [f"{module}::test_{number}" for module in modules for number in range(tests)]
    for number in range(workers):
        worker = Worker(str(number))
        dealer.add_node(worker)
        dealer.add_node_collection(worker, collected)
    dealer.schedule()
    return dealer, [next(iter(units)) for units in dealer.assigned_work.values()]


MODULES = [*(f"waits_{number}.py" for number in range(6)), *(f"computes_{number}.py" for number in range(6))]


@pytest.mark.parametrize(("workers", "waiting"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_half_of_the_workers_wait_and_the_others_compute(monkeypatch, workers, waiting):
    _, first = dealt(monkeypatch, workers, MODULES)
    assert sum(name.startswith("waits") for name in first) == waiting


def test_the_next_module_is_of_the_kind_of_which_too_few_are_under_way(monkeypatch):
    dealer, first = dealt(monkeypatch, 4, MODULES)
    for worker, module in zip(dealer.nodes, first, strict=True):
        for number in worker.sent[:]:
            dealer.mark_test_complete(worker, number)
        following = list(dealer.assigned_work[worker])[1]
        assert following.startswith("waits") == module.startswith("waits")


def test_all_modules_are_dealt_once_when_one_kind_is_used_up(monkeypatch):
    dealer, _ = dealt(monkeypatch, 3, [*MODULES[:2], *MODULES[6:]])
    for _ in range(100):
        for worker in dealer.nodes:
            done = {
                name
                for units in dealer.assigned_work[worker].values()
                for name, ended in units.items()
                if ended
            }
            names = dealer.registered_collections[worker]
            for number in [each for each in worker.sent if names[each] not in done][:1]:
                dealer.mark_test_complete(worker, number)
    sent = sorted(number for worker in dealer.nodes for number in worker.sent)
    assert sent == list(range(8 * 5))


def test_what_is_no_module_of_tests_does_not_wait():
    assert not conftest.waits("elsewhere/test_x.py")
    assert not conftest.waits("book/papers/attention_cnn.ipynb")
    assert conftest.waits("tests/show/test_browser.py")
    assert not conftest.waits("tests/models/test_models.py")
