"""Run notebooks in place on the embedded default data: ``python -m hemafl_book.build.execute PATHS``."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nbclient import NotebookClient

from hemafl_book.build import normalise

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HEMAFL_PROGRESS": "off",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}
"""What a kernel that writes committed outputs runs under, besides the absence of ``HEMAFL_DATA``."""


def execute(path: Path, timeout: int = 600) -> float:
    """Run every cell of a notebook in its own folder and store the outputs in normal form.

    The file changes only if all cells succeed; a failing cell raises nbclient's ``CellExecutionError``.

    Parameters
    ----------
    path
        The notebook.
    timeout
        Seconds that one cell may take.

    Returns
    -------
    float
        The seconds that it took.
    """
    start = time.perf_counter()
    notebook = normalise.read(path)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    environment = {name: value for name, value in os.environ.items() if name != "HEMAFL_DATA"}
    client.execute(env={**environment, **ENVIRONMENT})
    normalise.write(path, notebook)
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the notebooks named on the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="execute", description="Run notebooks on the embedded default data."
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="notebooks")
    paths = parser.parse_args(arguments).paths
    for path in paths:
        print(f"{path} ...", end=" ", flush=True)
        print(f"{execute(path):.0f} s")
    return normalise.main([*map(str, paths), "--check"])


if __name__ == "__main__":
    sys.exit(main())
