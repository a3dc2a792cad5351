"""Links of the built book: what they name exists, and every notebook page opens its own notebook on Colab."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from book_reader import HTML, ROOT, all_pages, written_pages

pytestmark = pytest.mark.book

NOTEBOOK_FOLDERS = ("chapters", "exercises", "solutions")


@pytest.fixture(scope="module")
def pages() -> list[str]:
    return written_pages()


def soup(path: str):
    """A page as a tree."""
    from bs4 import BeautifulSoup

    return BeautifulSoup((HTML / path).read_text(encoding="utf-8"), "html.parser")


LINKS = {"href": "a, link, area, use, image", "xlink:href": "a, use, image", "src": "[src]", "data": "object"}


def links(tree) -> list[str]:
    """Every address that a page names: links, also those of drawings, images, scripts, style sheets."""
    tags = ((name, tag) for name, which in LINKS.items() for tag in tree.select(which))
    return [tag[name].strip() for name, tag in tags if tag.has_attr(name)]


def places_in(tree) -> set[str]:
    """The anchors of a page."""
    named = {tag["name"] for tag in tree.find_all("a") if tag.has_attr("name")}
    return {tag["id"] for tag in tree.find_all(id=True)} | named


@pytest.fixture(scope="module")
def trees(pages) -> dict[str, object]:
    """All pages of the book, also those that Sphinx writes by itself."""
    return {path: soup(path) for path in all_pages()}


def test_internal_links_resolve(trees):
    """Every relative link, image and script exists, and so does the place in the page that it names."""
    places = {path: places_in(tree) for path, tree in trees.items()}
    broken = [
        f"{path}: {problem}"
        for path, tree in trees.items()
        for url in links(tree)
        if (problem := broken_link(path, url, places))
    ]
    assert not broken, "\n".join(broken)


def broken_link(page: str, url: str, places: dict[str, set[str]]) -> str:
    """What is wrong with a relative link of `page`, or an empty string."""
    parts = urlsplit(url)
    if parts.scheme or parts.netloc or url in ("", "#"):
        return ""
    target = Path(os.path.normpath((HTML / page).parent / unquote(parts.path) if parts.path else HTML / page))
    if not target.is_file():
        return f"{url} does not exist"
    inside = target.relative_to(HTML).as_posix()
    if parts.fragment and unquote(parts.fragment) not in places.get(inside, {unquote(parts.fragment)}):
        return f"{url} names no place in {inside}"
    return ""


def test_every_page_can_be_reached(trees):
    """Following links from the opening page leads to every page, but for the one of wrong addresses."""
    reached, waiting = set(), ["index.html"]
    while waiting:
        page = waiting.pop()
        if page in reached or page not in trees:
            continue
        reached.add(page)
        here = (HTML / page).parent
        ways = [tag["href"] for tag in trees[page].select("a[href]")] + ["search.html"]
        parts = [urlsplit(way) for way in ways]
        local = [unquote(part.path) for part in parts if part.path and not part.scheme and not part.netloc]
        waiting += [Path(os.path.normpath(here / path)).relative_to(HTML).as_posix() for path in local]
    assert set(trees) - reached == {"404.html"}


def test_addresses_for_search_engines_name_the_page(trees):
    """The address of the book stands in every head: as the page's own, and of a picture that exists."""
    for path, tree in trees.items():
        facts = {tag["property"]: tag["content"] for tag in tree.select('meta[property^="og:"]')}
        own = facts["og:url"]
        assert own.startswith("https://") and own.endswith(f"/{path}"), path
        base = own.removesuffix(path)
        assert (HTML / facts["og:image"].removeprefix(base)).is_file(), path
        canonical = tree.select_one('link[rel="canonical"]')
        assert canonical is None or canonical["href"] == own
        assert facts["og:title"], path
        assert (HTML / path).parent.joinpath(tree.select_one('link[rel="icon"]')["href"]).resolve().is_file(), path
        if path.startswith("chapters/") or path == "index.html":
            assert len(facts["og:description"]) >= 40, path
            assert tree.select_one('meta[name="description"]')["content"] == facts["og:description"]


def test_broken_links_are_noticed(trees):
    """The check itself: a page and an anchor that are not there, and a link inside a drawing."""
    places = {path: places_in(tree) for path, tree in trees.items()}
    assert "does not exist" in broken_link("index.html", "chapters/99_none.html", places)
    assert "names no place" in broken_link("index.html", "notation.html#no-such-place", places)
    assert "names no place" in broken_link("index.html", "#no-such-place", places)
    assert not broken_link("index.html", "notation.html#key-terms", places)
    assert not broken_link("index.html", "https://example.org/x", places)
    from bs4 import BeautifulSoup

    drawing = BeautifulSoup('<svg><a href="x.html"></a><image xlink:href="y.svg"/></svg>', "html.parser")
    assert links(drawing) == ["x.html", "y.svg"]


def test_the_map_links_every_chapter(trees):
    drawn = [tag["href"] for tag in trees["course_map.html"].select("svg a[href]")]
    chapters = sorted(path for path in trees if path.startswith("chapters/"))
    assert drawn == chapters


def test_external_links_are_listed(trees):
    """Addresses outside the book are collected in `_build/external_links.txt`, each with its pages; none is opened."""
    found: dict[str, set[str]] = {}
    for path, tree in trees.items():
        for url in links(tree):
            if urlsplit(url).netloc:
                found.setdefault(url, set()).add(path)
    lines = [f"{url}\t{' '.join(sorted(where))}" for url, where in sorted(found.items())]
    (HTML.parent / "external_links.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert found, "no link leaves the book: not even its repository is named"
    assert not [url for url in found if urlsplit(url).scheme not in ("https", "http", "")]


def test_every_notebook_page_opens_its_own_notebook_on_colab(pages, trees):
    """The Colab button names a notebook that is in the repository, the page's own."""
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    slug = re.search(r"^  url: https://github\.com/(\S+)$", config, re.M)[1]
    branch = re.search(r"^  branch: (\S+)$", config, re.M)[1]
    notebooks = [page for page in pages if page.split("/")[0] in NOTEBOOK_FOLDERS]
    assert notebooks, "the book has no notebook page"
    for path in notebooks:
        own = path.removesuffix(".html") + ".ipynb"
        links = {tag["href"] for tag in trees[path].select('a[href*="colab.research.google.com"]')}
        assert links == {f"https://colab.research.google.com/github/{slug}/blob/{branch}/{own}"}, path
        assert (ROOT / own).is_file(), f"{path}: its button opens {own}, which is not in the repository"
