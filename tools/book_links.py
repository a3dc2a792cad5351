"""Sphinx extension: in the book, a link to a notebook on Colab becomes a link to the page of that notebook.

Exercise and solution pages are built from generated notebooks. Their links go to Colab, which is right for a reader
who is there; a reader of the book stays in the book, also without a network. Colab buttons are not touched.
The role `colab` makes such a button in the text: {colab}`Run it on Colab <chapters/00_start_here>`.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import ReferenceRole

COLAB = "https://colab.research.google.com/github"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the transform with Sphinx."""
    app.add_post_transform(StayInTheBook)
    app.add_role("colab", ColabRole())
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class ColabRole(ReferenceRole):
    """A link that opens a page's notebook on Colab."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        theme = self.config.html_theme_options
        prefix = notebook_prefix(theme["repository_url"], theme["repository_branch"])
        address = f"{prefix}{self.target}.ipynb"
        return [nodes.reference("", self.title, refuri=address, classes=["colab"])], []


class StayInTheBook(SphinxPostTransform):
    """Rewrites links to notebooks that are pages of this book."""

    default_priority = 900  # after all references have been resolved

    def run(self, **kwargs: object) -> None:
        theme = self.config.html_theme_options
        prefix = notebook_prefix(theme["repository_url"], theme["repository_branch"])
        for link in self.document.findall(nodes.reference):
            page, anchor = page_of(link.get("refuri", ""), prefix)
            if page in self.env.found_docs and "colab" not in link["classes"]:
                link["refuri"] = self.app.builder.get_relative_uri(self.env.docname, page) + anchor
                link["internal"] = True


def notebook_prefix(repository: str, branch: str) -> str:
    """What the Colab address of every notebook of the repository starts with."""
    return f"{COLAB}/{repository.removeprefix('https://github.com/')}/blob/{branch}/"


def page_of(address: str, prefix: str) -> tuple[str, str]:
    """(page, "#anchor" or "") of a notebook's Colab address; two empty strings for any other address.

    >>> page_of("https://colab/x/chapters/03_a.ipynb#scores", "https://colab/x/")
    ('chapters/03_a', '#scores')
    """
    path, hash_sign, anchor = address.removeprefix(prefix).partition("#")
    if not address.startswith(prefix) or not path.endswith(".ipynb"):
        return "", ""
    return path.removesuffix(".ipynb"), hash_sign + anchor
