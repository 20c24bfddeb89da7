"""Prove that a GPU gives the numbers of the CPU: ``python tests/gpu/prove.py``, or `make test-gpu`.

First the library's own steps (run, fit, predict, activations, explain), then every notebook against its
stored outputs, both with HEMAFL_DEVICE=cuda. It ends after eight minutes at the latest; where there is no GPU
it says so in one line, with exit code 0, because nothing is wrong.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 480
STEPS = {
    "the library": ["-m", "gpu", "tests/gpu", "tests/training", "tests/device"],
    "the notebooks": ["--nbval", "--nbval-cell-timeout", "300", "book"],
}


def prove(what: str, arguments: list[str], until: float) -> bool:
    """Run pytest on the GPU; say and return whether it passed before ``until``."""
    environment = {name: value for name, value in os.environ.items() if name != "HEMAFL_DATA"}
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(min(4, os.cpu_count() or 1)), *arguments]
    try:
        done = subprocess.run(
            [*command, "--dist", "loadscope"],
            cwd=ROOT,
            env=environment | {"HEMAFL_DEVICE": "cuda", "OMP_NUM_THREADS": "1"},
            timeout=max(until - time.monotonic(), 1),
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"test-gpu: {what} did not end within the {SECONDS // 60} minutes.")
        return False
    print(f"test-gpu: {what} {'agree' if done.returncode == 0 else 'DISAGREE'} on CPU and GPU.")
    return done.returncode == 0


def main() -> int:
    """Prove every step; return the exit code."""
    if not torch.cuda.is_available():
        print("test-gpu: this machine has no CUDA, so nothing about the GPU was checked.")
        return 0
    print(f"test-gpu: {torch.cuda.get_device_name()}, torch {torch.__version__}")
    until = time.monotonic() + SECONDS
    return 0 if all([prove(what, arguments, until) for what, arguments in STEPS.items()]) else 1


if __name__ == "__main__":
    sys.exit(main())
