"""What the pages say of recorded figures: each link names the processor that its file names."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\((?P<file>[\w./]*benchmarks/results/[\w.]+\.json)\)(?: \((?P<machine>[^)]*)\))?")


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_link_to_figures_names_their_machine(page: Path) -> None:
    for link in LINK.finditer(page.read_text(encoding="utf-8")):
        recorded = json.loads((page.parent / link["file"]).read_text(encoding="utf-8"))
        processor = recorded["machine"]["processor"]
        assert link["machine"], f"{page.name}: {link['file']} without its machine"
        machine = link["machine"].removesuffix(", earlier version")
        assert set(machine.split()) <= set(re.sub(r"\(R\)", "", processor).split()), link["file"]


def test_every_result_is_quoted() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in pages())
    quoted = {Path(link["file"]).name for link in LINK.finditer(text)}
    assert quoted == {path.name for path in (ROOT / "benchmarks/results").glob("*.json")}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
