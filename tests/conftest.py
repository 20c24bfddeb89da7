"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests that ask for it are skipped without one."""
    folder = os.environ.get("HEMAFL_DATA")
    if not folder:
        pytest.skip("needs real data: HEMAFL_DATA is not set")
    return Path(folder)
