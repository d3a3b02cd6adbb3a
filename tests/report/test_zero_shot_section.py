"""The report on a hypernetwork's training: curves and figures of tokenizers that it was not trained on."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

from cpt.report import charts, page
from cpt.report.facts import RunRecord, gather

METRICS: dict[str, Any] = {
    "steps": 200,
    "tokens": 400_000,
    "bytes": 1_600_000,
    "zero_shot": {
        "source/domain": {"0": 0.801},
        "source/general": {"0": 0.95},
        "<b>mistral/v3/domain": {"0": 1.138, "100": 1.05, "200": 0.99},
        "<b>mistral/v3/general": {"0": 1.3, "100": 1.25, "200": 1.2},
    },
}


def with_hypernetwork(run: RunRecord, metrics: dict[str, Any]) -> RunRecord:
    made = replace(run.stages[0], name="zett", kind="hypernetwork", metrics=metrics)
    return replace(run, stages=[*run.stages, made])


def test_the_page_shows_curves_and_figures_and_escapes_names(run: RunRecord) -> None:
    facts = gather(with_hypernetwork(run, METRICS))
    assert facts.hypernetwork is not None
    assert facts.hypernetwork.curves("domain")["<b>mistral/v3"][200] == 0.99
    html = page.render(facts)
    assert "200 steps on 400,000 tokens" in html
    for words in ("the model&#39;s own", "&lt;b&gt;mistral/v3", "1.1380", "0.9900"):
        assert words in html
    assert "<b>mistral" not in html


def test_a_chart_says_where_each_tokenizer_began_and_ended(run: RunRecord) -> None:
    training = gather(with_hypernetwork(run, METRICS)).hypernetwork
    assert training is not None
    svg = charts.zero_shot(training, "domain")
    assert svg is not None
    words = ET.fromstring(svg).findtext("desc") or ""
    assert "<b>mistral/v3: 1.138 to 0.990; own tokenizer: 0.801" in words
    assert charts.zero_shot(training, "nothing") is None


def test_without_readings_the_page_says_how_to_have_some(run: RunRecord) -> None:
    html = page.render(gather(with_hypernetwork(run, {"steps": 3, "tokens": 9})))
    assert "No tokenizers were measured" in html


def test_without_a_hypernetwork_there_is_nothing(run: RunRecord) -> None:
    facts = gather(run)
    assert facts.hypernetwork is None
    assert "Tokenizers by the hypernetwork" not in page.render(facts)
