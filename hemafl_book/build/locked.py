"""What ``requirements.lock`` asks for: whether it is installed, and what of it is needed without CUDA.

    python hemafl_book/build/locked.py check           # exit status 1 if a package is missing
    python hemafl_book/build/locked.py without-cuda    # the lock without CUDA, to install with --no-deps

It runs before anything is installed, so it needs nothing but Python and pip.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"
PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^\s;\\]+)(?: ; (?P<marker>[^\\]+))?")

CUDA = re.compile(r"nvidia-|cuda-|triton$")
"""Packages that only serve a GPU of Nvidia's."""

TORCH = ("torch", "torchvision")
"""Packages that PyTorch's own index has without CUDA, in the versions of the lock."""


def pins(lock: str) -> Iterator[tuple[re.Match[str], str]]:
    """Yield each pin of a lock with all of its lines: name, version, marker, hashes and comments."""
    for block in re.split(r"^(?=[\w.-]+==)", lock, flags=re.MULTILINE):
        pin = PIN.match(block)
        if pin:
            yield pin, block


def without_cuda(lock: str) -> str:
    """Return a lock without the packages of `CUDA` and `TORCH`."""
    return "".join(block for pin, block in pins(lock) if not serves_cuda(pin["name"]))


def serves_cuda(name: str) -> bool:
    """Return whether a package is another one, or none, without CUDA."""
    return name in TORCH or CUDA.match(name) is not None


def missing(lock: str) -> list[str]:
    """Return the pins that this Python needs and does not have, those of `CUDA` aside."""
    return [
        f"{pin['name']}=={pin['version']}"
        for pin, _ in pins(lock)
        if not CUDA.match(pin["name"])
        and is_needed(pin["marker"])
        and installed(pin["name"]) != pin["version"]
    ]


def is_needed(marker: str | None) -> bool:
    """Return whether a marker such as ``sys_platform == 'linux'`` holds here."""
    from pip._vendor.packaging.markers import Marker

    return marker is None or Marker(marker.strip()).evaluate()


def installed(name: str) -> str | None:
    """Return the installed version of a package without a build's own suffix such as ``+cpu``."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


def main(arguments: Sequence[str]) -> int:
    """Run a command of the module's docstring; return the exit status."""
    lock = LOCK.read_text(encoding="utf-8")
    if arguments == ["without-cuda"]:
        print(without_cuda(lock), end="")
        return 0
    lacks = missing(lock)
    if lacks:
        more = f" and {len(lacks) - 3} more" if len(lacks) > 3 else ""
        print(f"{sys.prefix} lacks {', '.join(lacks[:3])}{more} of {LOCK.name}.", file=sys.stderr)
    return int(bool(lacks))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
