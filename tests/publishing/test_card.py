"""Model cards."""

import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))

from full_run import full_run
from medical_run import medical_run

from cpt.publishing.card import markdown, model_card, source_name
from cpt.publishing.compatibility import Finding
from cpt.report.facts import gather
from cpt.report.schema import Facts

FINDING = Finding("vLLM", False, "ids <1> have no token.")


@pytest.fixture(scope="module")
def facts() -> Facts:
    return gather(medical_run())


def test_the_card_states_figures_sources_and_stages(facts: Facts) -> None:
    card = model_card(facts, "org/medical", "apache-2.0", [FINDING])
    _, front, body = card.split("---\n", 2)
    metadata = YAML(typ="safe").load(front)
    assert metadata["license"] == "apache-2.0"
    assert metadata["library_name"] == "transformers"
    assert "continual-pretraining" in metadata["tags"]
    domain = facts.probes["domain"]
    assert f"| domain | {domain.before:.4f} | {domain.after:.4f} |" in body
    assert 'from_pretrained("org/medical")' in body
    assert "ids &lt;1&gt; have no token." in body
    for stage in facts.stages:
        assert f"`{stage.fingerprint[:12]}`" in body
    assert "122,880" not in body
    assert "domain 92,160, replay 30,720" in body


def test_a_licence_that_is_not_known_is_left_out(facts: Facts) -> None:
    assert "license" not in model_card(facts, "m", None, [])


def test_only_ids_of_the_hub_are_named_as_the_base(facts: Facts) -> None:
    for base, named in (("org/model@abc", "org/model"), ("wheel:a==1/b.gguf", None), ("/home/x/model", None)):
        front = model_card(facts.model_copy(update={"base": base}), "m", None, []).split("---\n")[1]
        assert YAML(typ="safe").load(front).get("base_model") == named


def test_every_part_of_a_full_run_is_there() -> None:
    full = gather(full_run())
    card = model_card(full, "m", None, [])
    for gate in full.watched.gates:
        assert gate.verdict in card
    assert full.suites is not None
    for name in full.suites.averages:
        assert f"suite {markdown(name)}" in card
    for name in full.tasks:
        assert markdown(name) in card


def test_names_are_no_markdown_and_no_html(facts: Facts) -> None:
    odd = facts.model_copy(update={"name": "<b>x</b>\n# [y](z) | `q`"})
    card = model_card(odd, "m", None, [])
    assert "<b>" not in card
    assert "\n# [y]" not in card
    assert r"\# \[y\](z) \| \`q\`" in card


def test_folders_are_not_published() -> None:
    assert source_name("/home/somebody/secret/notes.jsonl") == "notes.jsonl"
    assert source_name("hub:datasets/org/name") == "hub:datasets/org/name"
    assert source_name("data/notes.jsonl") == "data/notes.jsonl"
