"""Any cohort as one safetensors file: no pickle, no half-written file."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hemafl_lib.data.cohort import Cohort, ImageCohort, Provenance, TableCohort, VariantCohort
from hemafl_lib.errors import DataError
from hemafl_lib.files import replace_file

KINDS: dict[str, type[Cohort]] = {kind.__name__: kind for kind in (ImageCohort, VariantCohort, TableCohort)}


def save_cohort(cohort: Cohort, path: Path, mode: int = 0o644) -> None:
    """Write a cohort to ``path`` with the rights ``mode``, or leave what was there untouched.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    values = {field.name: getattr(cohort, field.name) for field in dataclasses.fields(cohort)}
    tensors = {name: v.contiguous() for name, v in values.items() if isinstance(v, torch.Tensor)}
    texts = {name: v.tolist() for name, v in values.items() if isinstance(v, np.ndarray)}
    rest = {name: list(v) for name, v in values.items() if isinstance(v, tuple)}
    provenance = dataclasses.asdict(cohort.provenance)
    head = {"kind": type(cohort).__name__, "texts": texts, "rest": rest, "provenance": provenance}
    metadata = {"cohort": json.dumps(head)}
    replace_file(path, lambda temporary: save_file(tensors, temporary, metadata=metadata), mode)


def read_cohort(path: Path) -> Cohort:
    """Read what `save_cohort` wrote; raise `DataError` naming the file if it is missing or damaged."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise DataError(f"{path} is no file; save the cohort elsewhere.")
    try:
        with safe_open(path, framework="pt") as file:
            head = json.loads(file.metadata()["cohort"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        texts: dict[str, Any] = {name: np.array(values, dtype=str) for name, values in head["texts"].items()}
        rest: dict[str, Any] = {name: tuple(values) for name, values in head["rest"].items()}
        about: dict[str, Any] = {
            n: tuple(v) if isinstance(v, list) else v for n, v in head["provenance"].items()
        }
        provenance = Provenance(**about)
        return KINDS[head["kind"]](**tensors, **texts, **rest, provenance=provenance)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; save the cohort there first.") from None
    except (SafetensorError, KeyError, TypeError, AttributeError, ValueError, RuntimeError, OSError) as error:
        raise DataError(f"{path} is damaged ({error}); delete it and save the cohort again.") from None
