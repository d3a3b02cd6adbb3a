"""The documentation site: built strictly, without network, searchable, readable on a phone."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from browsing import Visit
from doc_pages import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. Building it takes some six seconds of a processor."""
    for module in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install 'cpt-workbench[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = _built(ROOT / "docs", folder)
    assert done.returncode == 0, done.stderr
    return folder


def _built(source: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    options = ["--fail-on-warning", "--keep-going", "--nitpicky", "--quiet", "-b", "html"]
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(source), str(folder)], capture_output=True, text=True
    )


def test_every_page_is_in_the_contents(site: Path) -> None:
    pages = {file.relative_to(ROOT / "docs").with_suffix(".html") for file in (ROOT / "docs").rglob("*.md")}
    contents = (site / "index.html").read_text()
    assert [str(page) for page in pages if f'href="{page}"' not in contents and page.stem != "index"] == []


def test_every_link_of_the_first_page_leads_to_its_page(site: Path) -> None:
    links = re.findall(r"\]\(([\w/-]+)\.md\)", (ROOT / "docs" / "index.md").read_text())
    article = (site / "index.html").read_text().partition("<article")[2].partition("</article>")[0]
    assert [page for page in links if f'href="{page}.html"' not in article] == []


def test_a_broken_link_ends_the_build(site: Path, tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text((ROOT / "docs" / "conf.py").read_text())
    (tmp_path / "index.md").write_text(
        "# A\n\n[x](nowhere.md) [y](#there) [z](index.md#nor-there) [w](a.json)\n"
    )
    done = _built(tmp_path, tmp_path / "out")
    assert done.returncode != 0
    assert [
        word for word in ("nowhere.md", "'there'", "nor-there", "a.json") if word not in done.stderr
    ] == []


@pytest.mark.parametrize(("name", "width"), [("index", 1280), ("decide/replay", 390), ("benchmarks", 390)])
def test_a_page_fits_its_window_and_asks_no_network(
    site: Path, visit: Callable[..., Visit], name: str, width: int
) -> None:
    visited = visit(site / f"{name}.html", width=width)
    assert visited.complaints == []
    assert [address for address in visited.requests if not address.startswith("file:")] == []
    assert visited.ask("document.documentElement.scrollWidth") <= width


def test_the_search_works_from_the_disk(site: Path, visit: Callable[..., Visit]) -> None:
    visited = visit(f"{(site / 'search.html').as_uri()}?q=replay")
    visited.page.wait_for_selector("#search-results li a")
    assert "decide/replay.html" in visited.ask("document.querySelector('#search-results').innerHTML")
