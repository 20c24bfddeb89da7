"""A Sphinx extension that carries third-party scripts into the built book, so that it needs no network.

MathJax lies in an installed package. It is copied at build time and never committed.
"""

import shutil
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from hemafl_lib.errors import DataError

SCRIPTS = {"sphinx-mathjax-offline": "mathjax/tex-svg.js"}
"""The script that each package ships, by the end of its path."""


def find(package: str, ending: str) -> Path:
    """Return the installed file of ``package`` whose path ends with ``ending``; `DataError` without one."""
    try:
        found = [file.locate() for file in files(package) or [] if file.as_posix().endswith(ending)]
    except PackageNotFoundError:
        found = []
    if not found:
        raise DataError(f"The package {package} with {ending} is not installed; run `make install`.")
    return Path(found[0])


def copy_scripts(folder: Path) -> list[Path]:
    """Copy every script into ``folder`` and return the copies."""
    folder.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copy(find(package, ending), folder)) for package, ending in SCRIPTS.items()]


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx: the scripts go to ``_static/vendor`` of every HTML build."""
    app.connect("builder-inited", _copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _copy(app: Any) -> None:
    if app.builder.format == "html":
        copy_scripts(Path(app.outdir) / "_static" / "vendor")
