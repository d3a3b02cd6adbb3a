"""The pictures of the decision pages are those of the recorded figures, and are shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from doc_pages import PAGES, links, script

plots = script("plots")


@pytest.mark.parametrize("name", plots.PICTURES)
def test_a_picture_is_up_to_date(name: str) -> None:
    assert (plots.FOLDER / f"{name}.svg").read_text() == plots.svg(name), "run python docs/plots.py"


def test_a_picture_shows_other_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    before, recorded = plots.svg("vocabulary"), plots.figures
    rows = [row | {"bytes_per_token": row["bytes_per_token"] + 1} for row in recorded("extension")["rows"]]
    monkeypatch.setattr(plots, "figures", lambda name: {"rows": rows})
    assert plots.svg("vocabulary") != before


def test_the_comparison_is_drawn_with_both_fronts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted figures: the picture is made only where there is a result."""

    def arm(side: str, domain: float) -> dict:
        mean = {"value": domain, "low": domain - 0.01, "high": domain + 0.01}
        return {"side": side, "changes": {"domain": mean, "general": mean}, "seeds": [17, 18, 19]}

    once = {"value": -0.1, "low": None, "high": None}
    tried = {"side": "peer", "changes": {"domain": once, "general": once}, "seeds": [17]}
    arms = {"Trainer full 0.0001": arm("peer", -0.2), "cpt 0.0001, no-rise": arm("ours", -0.3)}
    arms["Trainer full 0.0004"] = tried
    planted = {"domains": {"medical": {"arms": arms}, "legal": {"arms": arms}}}
    monkeypatch.setattr(plots, "figures", lambda name: planted)
    monkeypatch.setitem(plots.PICTURES, "head-to-head", plots.head_to_head)
    drawn = plots.svg("head-to-head")
    assert all(word in drawn for word in (*arms, "medical text", "legal text"))
    assert drawn.count("(one seed)") == 2
    assert len(drawn) < 40_000


def test_pictures_are_small_and_shown() -> None:
    files = {file.name for file in plots.FOLDER.iterdir()}
    shown = {Path(link).name for page in PAGES for link in links(page) if link.endswith(".svg")}
    assert files == {f"{name}.svg" for name in plots.PICTURES}
    assert files <= shown
    assert all(len(plots.svg(name)) < 40_000 for name in plots.PICTURES)
