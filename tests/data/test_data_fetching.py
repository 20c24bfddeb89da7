"""Downloads over a local HTTP server: cut, resumed, checked, unpacked, refused."""

import hashlib
import io
import re
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from builders import tiny_layouts

from hemafl_lib import data
from hemafl_lib.data import cards
from hemafl_lib.data.cards import Download
from hemafl_lib.data.fetching import CHUNK, download
from hemafl_lib.errors import DataError

CONTENT = bytes(range(256)) * 2000


class Server(ThreadingHTTPServer):
    """Serves ``content`` at any path; ``cut`` closes the connection after so many bytes, once."""

    content = CONTENT
    tag = '"one"'
    ranges = True
    cut = 0
    status = 200
    requests: list

    def url(self):
        return f"http://127.0.0.1:{self.server_port}/file"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, content = self.server, self.server.content
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        server.requests.append(self.headers.get("Range"))
        start = 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.tag:
            start = int(wanted[1])
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(server.status)
        if server.tag:
            self.send_header("ETag", server.tag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        self.wfile.write(body[: server.cut] if server.cut else body)
        server.cut = 0
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as server:
        server.requests = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def sha256(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def source(server):
    return Download(server.url(), "file.bin")


def test_whole_file_arrives(server, tmp_path):
    path = download(source(server), tmp_path, sha256(CONTENT))
    assert path.read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir() if not file.name.endswith("validator")] == ["file.bin"]


@pytest.mark.survives("A download is cut", "the next one goes on where it stopped")
def test_cut_download_goes_on_where_it_stopped(server, tmp_path):
    server.cut = 3 * CHUNK
    with pytest.raises(DataError, match=r"stopped after 196,608 bytes .* run the same command again"):
        download(source(server), tmp_path, sha256(CONTENT))
    assert not (tmp_path / "file.bin").exists()
    assert download(source(server), tmp_path, sha256(CONTENT)).read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={3 * CHUNK}-"]


def test_file_that_changed_meanwhile_is_loaded_from_its_beginning(server, tmp_path):
    server.cut = 1000
    with pytest.raises(DataError, match="stopped"):
        download(source(server), tmp_path, None)
    server.content, server.tag = CONTENT[::-1], '"two"'
    assert download(source(server), tmp_path, None).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(("ranges", "tag"), [(False, '"one"'), (True, ""), (True, 'W/"weak"')])
def test_server_that_cannot_resume_sends_the_whole_file(server, tmp_path, ranges, tag):
    server.ranges, server.tag, server.cut = ranges, tag, 1000
    with pytest.raises(DataError, match="stopped"):
        download(source(server), tmp_path, sha256(CONTENT))
    assert download(source(server), tmp_path, sha256(CONTENT)).read_bytes() == CONTENT


def test_complete_part_is_not_downloaded_again(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    (tmp_path / "file.bin.part.validator").write_text(server.tag)
    assert download(source(server), tmp_path, sha256(CONTENT)).read_bytes() == CONTENT


def test_overlong_part_is_thrown_away(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"x")
    (tmp_path / "file.bin.part.validator").write_text(server.tag)
    with pytest.raises(DataError, match="answered 416; try again"):
        download(source(server), tmp_path, sha256(CONTENT))
    assert download(source(server), tmp_path, sha256(CONTENT)).read_bytes() == CONTENT


@pytest.mark.survives("A download does not have its checksum", "a sentence, and nothing of it is kept")
def test_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(DataError, match="does not have the checksum"):
        download(source(server), tmp_path, sha256(b"other"))
    assert not list(tmp_path.glob("file.bin*"))


def test_missing_file_is_a_sentence(server, tmp_path):
    server.status = 404
    with pytest.raises(DataError, match="answered 404"):
        download(source(server), tmp_path, None)
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file/sub cannot be written"):
        download(source(server), tmp_path / "file" / "sub", None)


@pytest.mark.survives("The server of a data set cannot be reached", "a sentence that names the address")
def test_unreachable_server_is_a_sentence(tmp_path):
    with pytest.raises(DataError, match=r"stopped with nothing to go on from .* to begin anew"):
        download(Download("http://127.0.0.1:9/file", "file.bin"), tmp_path, None)


@pytest.fixture
def archive(tmp_path, server, monkeypatch):
    """A card whose archive is served: the crops of BCCD with what else such archives hold."""
    tiny_layouts.bccd(tmp_path / "made")
    file = tmp_path / "bccd.zip"
    with zipfile.ZipFile(file, "w") as bundle:
        for path in sorted((tmp_path / "made").rglob("*.jpg")):
            bundle.write(path, f"BCCD-main/{path.relative_to(tmp_path / 'made')}")
        bundle.writestr("__MACOSX/BCCD-main/._x.jpg", b"\0")
        bundle.writestr("BCCD-main/README.md", "crops")
    server.content = file.read_bytes()
    served = replace(cards.card("bccd"), download=Download(server.url(), "bccd.zip"))
    monkeypatch.setitem(cards.CARDS, "bccd", served)
    monkeypatch.setenv("HEMAFL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_fetched_cohort_can_be_loaded(archive, server):
    digest = hashlib.sha256(server.content).hexdigest()
    fetched = data.fetch("bccd", archive, sha256=digest)
    assert fetched == (archive / "BCCD_cropped", digest)
    assert len(data.load("bccd", size=8, root=archive)) == 3
    assert not [path for path in archive.rglob("*") if "MACOSX" in path.name or "unpacking" in path.name]


def test_file_without_a_checksum_needs_trust(archive, server):
    with pytest.raises(DataError, match=r"--sha256.*--trust"):
        data.fetch("bccd", archive)
    assert server.requests == []
    assert data.fetch("bccd", archive, trust=True).sha256 == hashlib.sha256(server.content).hexdigest()


@pytest.mark.survives(
    "A data set is fetched into a folder that exists", "the folder stays as it is, and a sentence says so"
)
def test_existing_folder_is_never_overwritten(archive, server):
    (archive / "BCCD_cropped").mkdir()
    with pytest.raises(DataError, match="already exists"):
        data.fetch("bccd", archive, trust=True)
    assert server.requests == []


@pytest.mark.survives("An archive holds something else than its data set", "nothing is installed")
@pytest.mark.parametrize("content", [b"not a zip", None])
def test_archive_of_something_else_installs_nothing(archive, server, tmp_path, content):
    if content is None:
        with zipfile.ZipFile(tmp_path / "other.zip", "w") as bundle:
            bundle.writestr("readme.txt", "nothing here")
        content = (tmp_path / "other.zip").read_bytes()
    server.content = content
    with pytest.raises(DataError, match=r"bccd\.zip (cannot be unpacked|does not hold the layout)"):
        data.fetch("bccd", archive, trust=True)
    assert [path.name for path in archive.iterdir()] == [".downloads"]


def test_single_file_is_put_in_its_folder(server, tmp_path, monkeypatch):
    (tmp_path / "made").mkdir()
    (tmp_path / "root").mkdir()
    tiny_layouts.bloodmnist(tmp_path / "made")
    server.content = (tmp_path / "made" / "bloodmnist" / "bloodmnist.npz").read_bytes()
    md5 = "md5:" + hashlib.md5(server.content).hexdigest()
    served = Download(server.url(), "bloodmnist.npz", md5)
    monkeypatch.setitem(cards.CARDS, "bloodmnist", replace(cards.card("bloodmnist"), download=served))
    data.fetch("bloodmnist", tmp_path / "root")
    assert "bloodmnist" in data.available(tmp_path / "root")


def test_cohorts_behind_an_account_say_where_to_get_them(tmp_path):
    with pytest.raises(DataError, match=r"Kaggle .* unpack it as taleqani/"):
        data.fetch("taleqani", tmp_path)


@pytest.mark.survives(
    "A download is a web page (a login, a notice) and not the file",
    "a sentence asks to open it in a browser; nothing of it is kept",
)
@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html><p>Sign in", b"\n <HTML><body>moved", b"\xef\xbb\xbf<html>"]
)
def test_a_web_page_is_no_data(archive, server, page):
    server.content = page
    with pytest.raises(DataError, match=r"sent a web page and not the file.*open it in a browser"):
        data.fetch("bccd", archive, trust=True)
    assert [path for path in archive.rglob("*") if path.is_file()] == []


@pytest.mark.survives(
    "A download is cut, and the server cannot go on from there",
    "the part is deleted, and a sentence says that the download begins anew",
)
def test_a_part_that_cannot_be_resumed_is_not_kept(server, tmp_path):
    server.tag, server.cut = "", 1000
    with pytest.raises(DataError, match=r"stopped with nothing to go on from .*begin anew"):
        download(source(server), tmp_path, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.survives(
    "An archive of a data set is unsafe", "a sentence; no folder appears, and nothing half-unpacked stays"
)
def test_an_unsafe_archive_installs_nothing(archive, server):
    made = io.BytesIO(server.content)
    with zipfile.ZipFile(made, "a") as bundle:
        bundle.writestr("../../evil.txt", "evil")
    server.content = made.getvalue()
    with pytest.raises(
        DataError, match=r"bccd\.zip is not unpacked, because '../../evil\.txt' in it could lead"
    ):
        data.fetch("bccd", archive, trust=True)
    assert [path.name for path in archive.iterdir()] == [".downloads"]


@pytest.mark.survives(
    "The disk is full while an archive is unpacked", "a sentence; nothing half-unpacked stays"
)
def test_a_full_disk_while_unpacking_leaves_nothing(archive, server, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extractall", full)
    with pytest.raises(DataError, match=r"cannot be unpacked \(.*No space left on device"):
        data.fetch("bccd", archive, trust=True)
    assert [path.name for path in archive.iterdir()] == [".downloads"]


@pytest.mark.survives("The disk has less room than a download needs", "a sentence, before a byte is written")
def test_a_download_larger_than_the_disk_is_refused(server, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1))
    with pytest.raises(DataError, match=r"sends 512,000 bytes and .* has 1 free; make room"):
        download(source(server), tmp_path, None)
    assert not list(tmp_path.glob("file.bin*"))


def test_a_checksum_that_is_none_is_refused_before_the_download(archive, server):
    with pytest.raises(DataError, match="'abc' is no SHA-256; give its 64 hexadecimal digits"):
        data.fetch("bccd", archive, sha256="abc")
    assert server.requests == []


def test_a_tag_that_is_no_text_is_not_kept(server, tmp_path):
    server.tag = '"t\u00e4g"'
    assert download(source(server), tmp_path, sha256(CONTENT)).read_bytes() == CONTENT
