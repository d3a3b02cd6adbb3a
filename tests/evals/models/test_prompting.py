"""What precedes text, as the tokenizer, the user or lm-eval has it."""

import json
from pathlib import Path

import pytest
from lm_eval.models.huggingface import HFLM
from tokenizers import processors
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from cpt.errors import UsageError
from evals.models.prompting import Prompting, StartTokens

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What beats?"},
]


@pytest.fixture
def with_bos(another_model) -> Path:
    """A model whose tokenizer puts <s> before every text."""
    folder: Path = another_model("bos")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    backend = tokenizer.backend_tokenizer
    backend.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>").save_pretrained(
        folder
    )
    return folder


def test_the_tokenizers_own_start_is_lm_evals(tiny_model: Path, with_bos: Path) -> None:
    for folder, expected in ((tiny_model, StartTokens((), 0)), (with_bos, StartTokens((0,), 0))):
        found = Prompting(folder)
        theirs = HFLM(
            pretrained=AutoModelForCausalLM.from_pretrained(folder),
            tokenizer=AutoTokenizer.from_pretrained(folder),
        )
        assert found.start == expected
        assert found.start.empty == theirs.prefix_token_id
        plain = found.tokenizer.encode("The heart", add_special_tokens=False).ids
        assert [*found.start.tokens, *plain] == theirs.tok_encode("The heart")


def test_a_named_start_or_none(with_bos: Path) -> None:
    assert Prompting(with_bos, "</s>").start == StartTokens((1,), 1)
    assert Prompting(with_bos, None).start == StartTokens((), 0)
    with pytest.raises(UsageError, match="no token '<x>'"):
        Prompting(with_bos, "<x>")


def test_what_was_asked_once_is_remembered_for_the_same_tokenizer(
    with_bos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Prompting(with_bos, cache=tmp_path).start
    asked: list[Path] = []
    real = Prompting._read_special_tokens
    monkeypatch.setattr(
        Prompting, "_read_special_tokens", lambda self: asked.append(self.folder) or real(self)
    )
    assert Prompting(with_bos, cache=tmp_path).start == first
    assert not asked
    config = with_bos / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "eos_token": "<s>"}))
    Prompting(with_bos, cache=tmp_path)
    assert asked == [with_bos]
    for file in (tmp_path / "starts").iterdir():
        file.write_text("{")
    assert Prompting(with_bos, cache=tmp_path).start == first


def test_the_end_is_the_tokenizers_whatever_the_start_is(with_bos: Path, tmp_path: Path) -> None:
    for start in ("auto", "<s>", None):
        assert Prompting(with_bos, start).end == 1
        assert Prompting(with_bos, start, cache=tmp_path).end == 1


def test_special_tokens_are_special_in_chats_alone(tiny_model: Path, another_model) -> None:
    assert len(Prompting(tiny_model).tokenizer.encode("</s>", add_special_tokens=False).ids) > 1
    folder = another_model("chat")
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert Prompting(folder, chat=True).tokenizer.encode("</s>", add_special_tokens=False).ids == [1]


def test_chats_are_rendered_with_and_without_a_place_for_the_system(another_model) -> None:
    folder = another_model("chat")
    template = (
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    (folder / "chat_template.jinja").write_text(template)
    prompting = Prompting(folder, chat=True)
    assert prompting.render(MESSAGES, to_be_continued=True) == "[system]Be brief.[user]What beats?[assistant]"
    begun = [*MESSAGES, {"role": "assistant", "content": "The"}]
    assert prompting.render(begun, to_be_continued=False).endswith("[assistant]The")
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + template
    (folder / "chat_template.jinja").write_text(refusing)
    rendered = Prompting(folder, chat=True).render(MESSAGES, to_be_continued=True)
    assert rendered == "[user]Be brief.\n\nWhat beats?[assistant]"
