"""Chat templates are rendered as transformers does, and end whatever they hold."""

import threading
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from cpt.errors import CptError, ModelError
from cpt.models import chat_worker
from cpt.models.chat_template import ChatTemplate, TemplateRefused

CHAT = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
PLAIN = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
NESTED = "{% for a in range(9999) %}" * 5 + "{% endfor %}" * 5


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


def test_it_is_what_transformers_makes(tokenizer: Any) -> None:
    tokenizer.chat_template = PLAIN
    template = ChatTemplate(tokenizer, Path("model"))
    for continued in (True, False):
        expected = tokenizer.apply_chat_template(
            CHAT, tokenize=False, add_generation_prompt=continued, continue_final_message=not continued
        )
        assert template.render(CHAT, to_be_continued=continued) == expected


def test_a_template_may_refuse_and_go_on(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}ok"
    )
    template = ChatTemplate(tokenizer, Path("model"))
    with pytest.raises(TemplateRefused, match="no system") as refused:
        template.render([{"role": "system", "content": "x"}], to_be_continued=True)
    assert refused.value.by_itself
    assert template.render(CHAT, to_be_continued=True) == "ok"


@pytest.mark.parametrize("text", [NESTED, "{{ 9 ** (9 ** (9 ** 9)) }}", "{{ ('x' * 99999999999) | length }}"])
def test_a_template_that_does_not_end_is_named_in_any_thread(tokenizer: Any, text: str) -> None:
    tokenizer.chat_template = text
    template, caught = ChatTemplate(tokenizer, Path("some/model")), []

    def render() -> None:
        with pytest.raises(ModelError, match=r"chat template in some/model takes too long") as error:
            template.render(CHAT, to_be_continued=True)
        caught.append(error.value.exit_code)

    thread = threading.Thread(target=render)
    thread.start()
    thread.join(timeout=300)
    assert caught == [2]


def test_a_process_that_cannot_work_is_not_blamed_on_the_template(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "worker.py").write_text("raise ModuleNotFoundError('no module named resource')")
    monkeypatch.setattr(chat_worker, "__file__", str(tmp_path / "worker.py"))
    tokenizer.chat_template = PLAIN
    with pytest.raises(
        CptError, match="exit code 1: ModuleNotFoundError: no module named resource"
    ) as caught:
        ChatTemplate(tokenizer, Path("model")).render(CHAT, to_be_continued=True)
    assert not isinstance(caught.value, ModelError)
