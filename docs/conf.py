"""Settings of the documentation site, which Sphinx makes of the pages in Markdown (MyST): `make docs`.

The pages are plain Markdown, also readable where no site is built. Their order in the site is that of the
links on `index.md`, by its headings.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.addnodes import pending_xref

project = "cpt"
html_title = "cpt"
extensions = ["myst_parser"]
html_theme = "furo"
root_doc = "index"
myst_heading_anchors = 4
html_copy_source = False
html_show_sphinx = False

_LINK = re.compile(r"\]\(([\w/-]+)\.md\)")


def setup(app: Any) -> None:
    """Register what plain Markdown leaves to the site."""
    app.connect("source-read", _add_order)
    app.connect("doctree-read", _show_folders)


def _add_order(_app: Any, page: str, source: list[str]) -> None:
    """Append the table of contents to the first page: a caption for each heading, an entry for each link."""
    if page == root_doc:
        for section in source[0].split("\n## ")[1:]:
            title, _, text = section.partition("\n")
            entries = "\n".join(dict.fromkeys(_LINK.findall(text)))
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{entries}\n```\n"


def _show_folders(app: Any, page: Any) -> None:
    """Show links to folders of the repository as their names: the site has copies of files alone.

    A link to a page has the page's name as its target, which a folder can have as well: `gallery`.
    """
    here = Path(app.env.doc2path(app.env.docname)).parent
    for link in list(page.findall(pending_xref)):
        target = here / link["reftarget"]
        if target.is_dir() and not target.with_suffix(".md").exists():
            link.replace_self(link.children)
