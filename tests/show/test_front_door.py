"""The front door: where the source lives, how to cite, what each data set is."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from pybtex.database import parse_file

from hemafl_book.build import citation, data_cards, source
from hemafl_book.results import CODE
from hemafl_lib.data.cards import CARDS
from hemafl_lib.errors import DataError

ADDRESS = "https://github.com/somebody/haematology"
CONF = """
extensions = ["myst_nb", "hemafl_book.build.source", "hemafl_book.build.citation"]
html_theme = "sphinx_book_theme"
html_theme_options = {"show_toc_level": 2}
nb_execution_mode = "off"
source_repository = "ADDRESS"
"""
PAGE = "# A book\n\n```{source}\n```\n\n```{citation}\n```\n\n```{toctree}\nnotebook\n```\n"


@pytest.fixture(scope="module")
def small_books(tmp_path_factory):
    """Two pages, of a book without a public home and of the same with one."""

    def build(address):
        folder = tmp_path_factory.mktemp("book")
        (folder / "conf.py").write_text(CONF.replace("ADDRESS", address))
        (folder / "index.md").write_text(PAGE)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A notebook")])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, folder / "notebook.ipynb")
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", folder, folder / "html"]
        environment = os.environ | {"PYTHONPATH": str(CODE)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return [(folder / "html" / f"{name}.html").read_text() for name in ("index", "notebook")]

    return {address: build(address) for address in ("", ADDRESS)}


def test_without_a_home_there_is_no_button_to_it(small_books):
    for page in small_books[""]:
        assert "mybinder.org" not in page
        assert not re.search(r"Suggest edit|Open issue|Source repository", page)
    assert source.AWAY in small_books[""][0]


def test_with_a_home_each_page_offers_an_edit_and_each_notebook_the_cloud(small_books):
    index, notebook = small_books[ADDRESS]
    assert f'href="{ADDRESS}/edit/main/index.md"' in index
    assert f'href="{ADDRESS}/edit/main/notebook.ipynb"' in notebook
    cloud = "https://mybinder.org/v2/gh/somebody/haematology/main?urlpath=lab/tree/notebook.ipynb"
    assert cloud in notebook
    assert "mybinder.org" not in index
    said = re.search(r"<p>The source of this book lives at (.+?)</p>", index)[1]
    assert f'href="{ADDRESS}"' in said
    assert source.AWAY not in index


def test_the_book_itself_has_the_setting(repository):
    config = yaml.safe_load((repository / "_config.yml").read_text())["sphinx"]["config"]
    assert "source_repository" in config
    assert config["extensions"].index("hemafl_book.build.source") > config["extensions"].index(
        "sphinx_book_theme"
    )
    settings = SimpleNamespace(html_theme_options={"show_toc_level": 2}, source_repository=ADDRESS)
    source.apply(None, settings)
    assert settings.html_theme_options["repository_url"] == ADDRESS
    assert settings.html_theme_options["show_toc_level"] == 2


@pytest.mark.parametrize("address", ["somebody/book", "http://github.com/a/b", "https://example.org/a/b"])
def test_an_address_without_a_known_host_is_one_sentence(address):
    with pytest.raises(DataError, match=r"source_repository in _config\.yml is '.+'; write https://github"):
        source.options(address)


def test_the_page_cites_what_the_citation_file_says(small_books, repository):
    said = yaml.safe_load((repository / "CITATION.cff").read_text())
    page = re.sub(r"<[^>]+>", "", small_books[""][0])
    assert citation.sentence(said) in page
    for part in (said["title"], said["version"], said["authors"][0]["name"]):
        assert part in citation.sentence(said)
        assert part in citation.bibtex(said)
    assert ("doi" in said) == ("doi" in citation.bibtex(said))


def test_a_citation_with_people_a_date_and_a_doi():
    people = [{"given-names": "Ada", "family-names": "Moe"}, {"name": "The others"}]
    known = {
        "authors": people,
        "title": "T",
        "version": "1.0",
        "date-released": "2027-01-02",
        "doi": "10.1/x",
    }
    assert citation.sentence(known) == "Ada Moe, The others (2027). T. Version 1.0. https://doi.org/10.1/x"
    assert citation.bibtex(known).splitlines()[1] == "  author = {Ada Moe and {The others}},"
    assert "  doi = {10.1/x}," in citation.bibtex(known)


@pytest.mark.parametrize("name", CARDS)
def test_the_page_of_data_cards_says_what_the_registry_says(name):
    section = data_cards.section(CARDS[name])
    assert section["ids"] == [f"card-{name}"]
    for heading, text in CARDS[name].rows().items():
        assert text in section.astext()
        assert heading == "title" or heading in section.astext()


def test_a_command_of_a_card_is_one_that_is_not_refused():
    for card in CARDS.values():
        if card.download:
            command = card.rows()["how to get it"].split(" (from")[0]
            assert ("--trust" in command) == (card.download.checksum is None), card.name


UNLINKED = {"wjarr2024", "carota2026", "bain2015", "breslow1972"}
"""Works for which no address could be checked."""


def test_every_work_of_the_bibliography_has_an_address_once(repository):
    works = parse_file(str(repository / "book" / "reference" / "references.bib")).entries
    addresses = {}
    for name, work in works.items():
        found = [work.fields[kind] for kind in ("doi", "eprint", "url") if kind in work.fields]
        assert (not found) == (name in UNLINKED), name
        assert work.persons.get("author") or "key" in work.fields, name
        for address in found:
            assert addresses.setdefault(address, name) == name, f"{name} is the work {addresses[address]}"
            assert re.fullmatch(r"10\.\d{4,}/\S+|\d{4}\.\d{4,5}|https://\S+", address), name
