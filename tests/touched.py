"""Print the folders of tests of the rooms that changed: ``python tests/touched.py [BASE]``.

What counts is every change since the branch left the main one, committed or not. ``BASE`` is another commit
to compare with. `make quick` runs these folders.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
MAIN = ("origin/HEAD", "origin/main", "main")
TESTS_OF = {"cli": "command", "build": "show", "results": "papers", "augmentation": "training"}
"""Rooms whose tests lie in another room's folder."""


def git(*arguments: str) -> str:
    """Return what git prints; nothing where it fails."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def merge_base() -> str:
    """Return the commit at which this branch left the main one; the last commit if no main one is known."""
    return next((base for name in MAIN if (base := git("merge-base", "HEAD", name))), "HEAD")


def changed_files(base: str) -> list[str]:
    """Return the files that differ from ``base``, those included that git does not track yet."""
    names = [git("diff", "--name-only", base), git("ls-files", "--others", "--exclude-standard")]
    return "\n".join(names).split("\n")


def folder_of(name: str) -> str:
    """Return the folder of tests for one file; what belongs to no room is the house's own."""
    parts = PurePosixPath(name).parts
    top, room = parts[0], PurePosixPath(parts[1]).stem if len(parts) > 1 else ""
    if top == "benchmarks":
        room = top
    elif top not in ("hemafl_lib", "hemafl_book", "tests"):
        room = ""
    room = TESTS_OF.get(room, room)
    return f"tests/{room}" if room and (ROOT / "tests" / room).is_dir() else "tests/house"


def folders(names: Iterable[str]) -> list[str]:
    """Return the folders of tests for all files; the house's own tests always run."""
    return sorted({"tests/house", *(folder_of(name) for name in names if name)})


if __name__ == "__main__":
    print(*folders(changed_files(sys.argv[1] if len(sys.argv) > 1 else merge_base())))
