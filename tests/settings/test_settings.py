"""Settings are refused in one sentence where they cannot be right, and otherwise stay as they were given."""

import math
from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar, Literal

import pytest

from hemafl_lib.errors import FederationError, HemaflError
from hemafl_lib.settings import Count, NotNegative, Positive, Probability, Settings


@dataclass(frozen=True)
class Inner(Settings):
    weight: NotNegative = 0


@dataclass(frozen=True)
class Narrower(Inner):
    ERROR: ClassVar[type[HemaflError]] = FederationError


@dataclass(frozen=True)
class Outer(Settings):
    rule: Literal["mean", "median"] = "mean"
    rate: Positive = 1
    rounds: Count = 3
    share: Probability = 0.5
    clip: Positive | None = None
    copy: bool = False
    inner: Inner = field(default_factory=Inner)
    sizes: tuple[Positive, ...] = ()


@dataclass(frozen=True)
class Plain:
    rate: float = 1
    rounds: int = 3


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"rule": "mode"}, "Outer: rule='mode' is unknown; choose one of: 'mean', 'median'."),
        ({"rate": 0}, "Outer: rate=0 is not allowed; it must be greater than 0."),
        ({"rate": math.nan}, "Outer: rate=nan is not allowed; it must be a finite number."),
        ({"rate": math.inf}, "Outer: rate=inf is not allowed; it must be a finite number."),
        ({"rate": "1"}, "Outer: rate='1' is not allowed; it must be a valid number."),
        ({"rounds": "3"}, "Outer: rounds='3' is not allowed; it must be a whole number."),
        ({"rounds": 3.0}, "Outer: rounds=3.0 is not allowed; it must be a whole number."),
        ({"rounds": True}, "Outer: rounds=True is not allowed; it must be a whole number."),
        ({"share": 1.5}, "Outer: share=1.5 is not allowed; it must be less than or equal to 1."),
        ({"clip": -1.0}, "Outer: clip=-1.0 is not allowed; it must be greater than 0."),
        ({"copy": 1}, "Outer: copy=1 is not allowed; it must be a valid boolean."),
        (
            {"inner": {"weight": 1}},
            "Outer: inner={'weight': 1} is not allowed; it must be an instance of Inner.",
        ),
        ({"sizes": (1, -2)}, r"Outer: sizes[1]=-2 is not allowed; it must be greater than 0."),
    ],
)
def test_a_value_that_cannot_be_is_refused_in_one_sentence(setting, sentence):
    with pytest.raises(HemaflError) as refusal:
        Outer(**setting)
    assert str(refusal.value) == sentence


def test_the_error_is_the_one_that_the_class_names():
    with pytest.raises(FederationError, match="Narrower: weight=-1 is not allowed"):
        Narrower(weight=-1)


def test_changing_one_setting_checks_again():
    with pytest.raises(HemaflError, match="rounds=0"):
        replace(Outer(), rounds=0)


def test_settings_stay_what_a_plain_dataclass_of_them_is():
    @dataclass(frozen=True)
    class Checked(Settings):
        rate: Positive = 1
        rounds: Count = 3

    checked, plain = Checked(rate=2), Plain(rate=2)
    assert asdict(checked) == asdict(plain)
    assert type(checked.rate) is int
    assert hash(checked) == hash(plain)
    assert checked == Checked(rate=2) != Checked()
    assert repr(checked).endswith("Checked(rate=2, rounds=3)")
    assert repr(Outer(inner=Narrower(2))).endswith("inner=Narrower(weight=2), sizes=())")
