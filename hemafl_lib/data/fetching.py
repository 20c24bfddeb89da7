"""Downloads that can be cut and resumed, are checked before they are unpacked, and never half there.

What an archive may do is in `hemafl_lib.data.archives`.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pooch
import requests
from tqdm import tqdm

from hemafl_lib import files
from hemafl_lib.data.archives import unpack
from hemafl_lib.data.cards import Card, Download, card
from hemafl_lib.data.layouts import LAYOUTS, Layout
from hemafl_lib.data.loading import data_root
from hemafl_lib.errors import DataError

CHUNK = 1 << 16
TIMEOUT = 30

WEB_PAGE = re.compile(rb"\s*(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body|!--)", re.IGNORECASE)
"""How a web page begins: a login, an error or a notice in the place of a file."""

DEEPEST = 6
"""Folders above this depth in an archive may hold the layout."""


class Fetched(NamedTuple):
    """Where a cohort is now, and the SHA-256 of the file that was downloaded."""

    folder: Path
    sha256: str


def fetch(
    name: str,
    root: Path | str | None = None,
    *,
    sha256: str | None = None,
    trust: bool = False,
    progress: bool = False,
) -> Fetched:
    """Download a cohort into ``root``; return the folder that holds it and the download's SHA-256.

    A download that is cut goes on where it stopped when `fetch` is called again. The file is
    unpacked only after its checksum was compared.

    Parameters
    ----------
    name
        A name of the catalogue whose card has a download.
    root
        Folder of the public layouts; ``HEMAFL_DATA`` by default.
    sha256
        Checksum that the downloaded file must have, in hexadecimal; replaces the catalogue's.
    trust
        Accept a file for which no checksum is known.
    progress
        Show a progress bar.

    Raises
    ------
    DataError
        If the cohort must be got by hand, no checksum is known and ``trust`` is False, the download
        is cut or a web page, the checksum differs, or the archive is unsafe or does not hold the layout.
    """
    about = card(name)
    if about.download is None:
        raise DataError(f"'{name}' cannot be fetched: {about.by_hand}")
    folder = data_root(root)
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise DataError(f"sha256='{sha256}' is no SHA-256; give its 64 hexadecimal digits.")
    known = f"sha256:{sha256.lower()}" if sha256 else about.download.checksum
    if known is None and not trust:
        raise DataError(
            f"no checksum is published for '{name}'; give one with --sha256, or accept what "
            f"{about.download.url} sends with --trust (its SHA-256 is then printed)."
        )
    layout = LAYOUTS[name]
    target = folder / layout.folder
    if target.exists():
        raise DataError(f"{target} already exists; check it with 'hemafl data check', or move it away first.")
    files.check_folder(folder)
    file = download(about.download, folder / ".downloads", known, progress=progress)
    digest = files.sha256(file)
    try:
        _install(file, about, layout, target)
    except OSError as error:
        raise DataError(
            f"{target} cannot be written ({error.strerror}); free space there and fetch again; the "
            f"download is kept in {file}."
        ) from None
    return Fetched(target, digest)


def download(source: Download, folder: Path, checksum: str | None, *, progress: bool = False) -> Path:
    """Download one file into ``folder`` through pooch, which compares its ``checksum``.

    Raises
    ------
    DataError
        If the download fails or is cut (call again to go on), is a web page, or the checksum differs.
    """
    part = folder / f"{source.file}.part"
    try:
        path = pooch.retrieve(
            source.url,
            known_hash=checksum,
            fname=source.file,
            path=folder,
            downloader=ResumingDownloader(part, progress=progress),
        )
    except requests.HTTPError as error:
        answer = "an error" if error.response is None else error.response.status_code
        raise DataError(f"{source.url} answered {answer}; try again later, or download it by hand.") from None
    except requests.RequestException as error:
        have = part.stat().st_size if part.exists() else 0
        kept = f"after {have:,} bytes" if have else "with nothing to go on from"
        again = "go on from there" if have else "begin anew"
        raise DataError(
            f"the download of {source.url} stopped {kept} ({type(error).__name__}); "
            f"run the same command again to {again}."
        ) from None
    except DataError:
        raise
    except ValueError:
        raise DataError(
            f"{source.url} sent a file that does not have the checksum {checksum}, and it was deleted; "
            "fetch it again, or correct the checksum."
        ) from None
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error.strerror}); free space or choose another."
        ) from None
    return Path(path)


class ResumingDownloader:
    """A pooch downloader that keeps what has arrived in ``part`` and asks only for the rest.

    It uses HTTP range requests (RFC 9110, section 14). The server's entity tag (or the date of the
    file) is kept beside the part, so that a file that changed in between is loaded from its beginning.
    """

    def __init__(self, part: Path, *, progress: bool = False) -> None:
        self.part = part
        self.validator = part.with_name(f"{part.name}.validator")
        self.progress = progress

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download ``url`` to ``output_file`` (the signature is pooch's)."""
        self.part.parent.mkdir(parents=True, exist_ok=True)
        try:
            with requests.get(url, headers=self._headers(), stream=True, timeout=TIMEOUT) as response:
                if not self._is_complete(response):
                    response.raise_for_status()
                    self._receive(response)
        except BaseException:
            self._keep_what_can_be_resumed()
            raise
        self.validator.unlink(missing_ok=True)
        self.part.replace(output_file)

    def _headers(self) -> dict[str, str]:
        """Ask for the bytes that are missing, if the file is still the same; never for compressed ones."""
        headers = {"Accept-Encoding": "identity"}
        validator = self._known_validator()
        if self.part.exists() and validator:
            headers["Range"] = f"bytes={self.part.stat().st_size}-"
            headers["If-Range"] = validator
        return headers

    def _known_validator(self) -> str:
        return self.validator.read_text(encoding="ascii", errors="replace") if self.validator.exists() else ""

    def _keep_what_can_be_resumed(self) -> None:
        """Delete the part of a file that the server could not continue."""
        if not self._known_validator():
            self.part.unlink(missing_ok=True)
            self.validator.unlink(missing_ok=True)

    def _is_complete(self, response: requests.Response) -> bool:
        """Return whether the server says that the part is the whole file (416, "bytes */LENGTH")."""
        if response.status_code != requests.codes.requested_range_not_satisfiable:
            return False
        length = response.headers.get("Content-Range", "").rpartition("/")[2]
        if length == str(self.part.stat().st_size):
            return True
        self.part.unlink()
        return False

    def _receive(self, response: requests.Response) -> None:
        """Append the body to the part; start over unless the server continues where the part ends."""
        resumed = response.status_code == requests.codes.partial_content
        start = self.part.stat().st_size if resumed else 0
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            self.part.unlink()
            raise requests.exceptions.ContentDecodingError("the server sent another range than asked for")
        length = response.headers.get("Content-Length", "")
        total = start + (int(length) if length.isdecimal() else 0)
        free = shutil.disk_usage(self.part.parent).free
        if total - start > free:
            raise DataError(
                f"{response.url} sends {total:,} bytes and {self.part.parent} has {free:,} free; make room."
            )
        self.validator.write_text(_validator(response), encoding="ascii")
        bar = tqdm(initial=start, total=total or None, unit="B", unit_scale=True, disable=not self.progress)
        with bar, self.part.open("ab" if resumed else "wb") as file:
            for chunk in response.iter_content(CHUNK):
                if file.tell() == 0 and WEB_PAGE.match(chunk):
                    self.validator.write_text("", encoding="ascii")
                    raise DataError(
                        f"{response.url} sent a web page and not the file, perhaps a login or a notice; "
                        "open it in a browser, and download the file by hand."
                    )
                file.write(chunk)
                bar.update(len(chunk))


def _validator(response: requests.Response) -> str:
    """Return what tells the server whether the file is still the same, or an empty text."""
    tag = response.headers.get("ETag", "")
    # A weak tag (W/"...") does not promise equal bytes.
    told = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
    return told if told.isascii() else ""


def _install(file: Path, about: Card, layout: Layout, target: Path) -> None:
    """Put a downloaded file in its place: first beside it, then renamed in one step."""
    try:
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=target.parent) as temporary:
            unpacked = Path(temporary) / "content"
            unpacked.mkdir()
            if about.download is not None and about.download.is_archive:
                unpack(file, unpacked)
            else:
                shutil.copy2(file, unpacked)
            found = _holding(layout, unpacked)
            if found is None:
                raise DataError(
                    f"{file} does not hold the layout of '{about.name}' ({about.layout}); delete it."
                )
            found.rename(target)
        file.unlink()
    except OSError as error:
        raise DataError(
            f"{target} cannot be written ({error.strerror}); make room, and fetch it again."
        ) from None


def _holding(layout: Layout, folder: Path) -> Path | None:
    """Return the folder that holds the layout: one with the layout's own name, else the outermost."""
    inside = [path for depth in range(1, DEEPEST) for path in folder.glob("*/" * depth) if path.is_dir()]
    candidates = sorted([folder, *inside], key=lambda path: (path.name != layout.folder, len(path.parts)))
    for path in candidates:
        if layout.recognises(layout.listing(path)):
            return path
    return None
