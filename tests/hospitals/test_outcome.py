"""What a run over many hospitals, or one that says too much, leaves: a card that can be read again."""

from types import SimpleNamespace

import pytest

from hemafl_lib import clinic
from hemafl_lib.federation.hospital import RunSettings
from hemafl_lib.hospitals import outcome
from hemafl_lib.hospitals.settings import Place

HONEST = {"num-examples": 40, "loss": 0.693, "accuracy": 0.512, "balanced-accuracy": 0.487}


def names(count: int, length: int = 11) -> tuple[str, ...]:
    """So many hospitals, with names of so many characters."""
    return tuple(f"hospital-{number:02d}".ljust(length, "x") for number in range(count))


@pytest.fixture
def leave(tmp_path):
    """Write the outcome of a run of images in which each hospital measured the same."""

    def write(hospitals, measured, secure=False):
        place = Place("images", ",".join(hospitals), ",".join(map(str, range(len(hospitals)))), secure)
        run = RunSettings(hospitals=len(hospitals), size=16, width=4)
        told = [
            (1, "evaluate", site, metric, value) for site in hospitals for metric, value in measured.items()
        ]
        training = SimpleNamespace(job=run.job(), strategy=SimpleNamespace(history=told, refused=[]))
        outcome.write_images(tmp_path, place, run, training)
        return clinic.load(tmp_path).card, (tmp_path / outcome.REPORT).read_text()

    return write


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("length", [11, 100])
def test_the_card_of_many_hospitals_can_be_read(leave, secure, length):
    hospitals = names(40, length)
    card, report = leave(hospitals, HONEST, secure)
    assert card.sites == hospitals
    assert card.title.startswith("An attention CNN trained by hospital-00")
    assert (outcome.SUMMED if secure else outcome.READ) in card.about
    assert card.about.endswith(" Validation images chose nothing.")
    assert all(name in report for name in hospitals)


def test_the_card_says_what_a_few_hospitals_measured(leave):
    card, _ = leave(names(2), HONEST)
    for name in names(2):
        said = f"{name} num-examples 40, loss 0.693, accuracy 0.512, balanced-accuracy 0.487"
        assert said in card.about


def test_a_metric_of_a_hospitals_own_is_in_the_report_only(leave):
    odd = {f"m{number:02d}".ljust(99, "x"): 1.0 for number in range(20)}
    card, report = leave(names(3), HONEST | odd)
    assert "hospital-02 num-examples 40, loss 0.693" in card.about
    for name in odd:
        assert name not in card.about
        assert name in report
