"""A protocol as plain values: what decides the numbers of an experiment, and its hash."""

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

Asked = TypeVar("Asked", bound=Any)
"""A paper's protocol."""


class OfStudies:
    """A protocol of studies that have seeds of their own."""

    studies: Sequence[Any]

    def with_first_seed(self: Asked) -> Asked:
        """Return the protocol with the first seed of each study."""
        return replace(self, studies=tuple(replace(study, seeds=study.seeds[:1]) for study in self.studies))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of all studies."""
        return tuple(sorted({seed for study in self.studies for seed in study.seeds}))


def slug(title: str) -> str:
    """Return the title of a study as the command takes it: "3 clients, 8 rounds" is 3-clients-8-rounds."""
    return "-".join(re.findall(r"[a-z0-9.]+", title.lower().replace("'", "")))


def with_studies(asked: Asked, titles: Sequence[str]) -> Asked:
    """Return a protocol with the studies of these titles."""
    return replace(asked, studies=tuple(study for study in asked.studies if study.title in titles))


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
