"""A protocol as plain values: what decides the numbers of an experiment, and its hash."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any


class OfStudies:
    """A protocol of studies that have seeds of their own."""

    studies: Sequence[Any]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of all studies."""
        return tuple(sorted({seed for study in self.studies for seed in study.seeds}))


def describe(protocol: Any, **fixed: Any) -> dict[str, Any]:
    """Return a protocol as plain JSON values, with what is ``fixed`` beside its fields.

    Changes are named where there are any, so that a changed protocol never has the hash of the paper's.
    """
    plain = asdict(protocol)
    plain["studies"] = [describe_study(study) for study in protocol.studies]
    del plain["changes"]
    named = {"changes": protocol.changes.as_dict()} if protocol.changes else {}
    return {**plain, **fixed, **named}


def describe_study(study: Any) -> dict[str, Any]:
    """Return a study as plain JSON values, its arms with the names of their aggregators.

    Another deal than the study's own stands there with all settings of its scheme.
    """
    plain = asdict(study)
    if plain.pop("deal", None) is not None:
        plain["deal"] = study.deal.describe()
    if "arms" in plain:
        plain["arms"] = [arm.describe() for arm in study.arms]
    return plain
