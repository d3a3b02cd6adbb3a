"""Sources of the corpus stage: conversations, the hub, limits, patterns, addresses, facts, checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import fsspec
import numpy as np
import pytest
from corpus_runs import byte_model, run, write
from pydantic import ValidationError
from tokenizers import Tokenizer

from cpt.corpus import open_source, read_documents, read_index
from cpt.corpus.documents import Document
from cpt.corpus.readers import extracted
from cpt.corpus.readers.conversations import TemplateRenderer
from cpt.errors import DataError, ReferenceUnavailable, SourceError
from cpt.models.tokenizer import load_tokenizer
from cpt.references import fingerprint
from cpt.stages.base import Artifact, Context
from cpt.stages.corpus.config import CorpusConfig, Source
from cpt.stages.corpus.sources import read_sources, source_names
from cpt.stages.corpus.stage import STAGE

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if loop.index0 % 2 and m.role == 'user' %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% else %}{{ eos_token }}{% endif %}"
)
TALK = [{"role": "user", "content": "Is 37 a fever?"}, {"role": "assistant", "content": "No."}]
RENDERED = "<|im_start|>user\nIs 37 a fever?<|im_end|>\n<|im_start|>assistant\nNo.<|im_end|>\n"


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))
    return byte_model(tmp_path)


@pytest.fixture
def chat_base(base: Artifact) -> Artifact:
    folder = base.path("model")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    marks = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(marks))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return base


def records(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def domain(tmp_path: Path) -> dict[str, str]:
    return write(tmp_path / "domain.jsonl", *(f"domain text {number}" for number in range(80)))


def kept(corpus: Path, source: str = "domain") -> list[str]:
    sides = read_index(corpus).sources[source].splits
    return [document.text for side in sides for document in read_documents(corpus, source, side)]


def problems(base: Artifact | None = None, **config: Any) -> dict[str | None, str]:
    checked = CorpusConfig.model_validate({"domain": [{"path": "a.jsonl"}], **config})
    found = STAGE.check(checked, {"model": base} if base else {})
    return {problem.key: problem.message for problem in found}


# Conversations


def test_a_conversation_is_the_templates_text_and_tokens(chat_base: Artifact, tmp_path: Path) -> None:
    path = records(tmp_path / "chat.jsonl", {"messages": TALK})
    replay = [{"path": path, "chat": "messages"}]
    corpus, _, _ = run(chat_base, tmp_path, domain=[domain(tmp_path)], replay=replay, sequence_length=128)
    tokenizer = load_tokenizer(chat_base.path("model"))
    ids = open_source(corpus, "replay").sequence(0).tokens.tolist()
    turn, end = tokenizer.token_to_id("<|im_start|>"), tokenizer.token_to_id("<|im_end|>")
    assert (ids.count(turn), ids.count(end)) == (2, 2)
    assert ids[:2] == [tokenizer.token_to_id("<s>"), turn]
    assert ids[-1] == tokenizer.token_to_id("</s>")
    assert ids.count(ids[0]) == ids.count(ids[-1]) == 1


def test_every_form_of_conversation_is_read(chat_base: Artifact, tmp_path: Path) -> None:
    shared = [{"from": "human", "value": "Is 37 a fever?"}, {"from": "gpt", "value": "No."}]
    forms = {
        "a": ({"conversations": shared}, "conversations"),
        "b": ({"q": "Is 37 a fever?", "a": "No."}, {"prompt": "q", "completion": "a"}),
        "c": ({"q": TALK[:1], "a": TALK[1:]}, {"prompt": "q", "completion": "a"}),
    }
    datasets.Dataset.from_list([{"messages": TALK}]).save_to_disk(tmp_path / "saved")
    sources = [Source(path=str(tmp_path / "saved"), chat="messages")]
    for name, (row, chat) in forms.items():
        sources.append(Source(path=records(tmp_path / f"{name}.jsonl", row), chat=chat))
    renderer = TemplateRenderer(chat_base.path("model"), "<s>", "</s>")
    assert [item.text for item in read_sources(sources, _Silent(), {}, renderer)] == [RENDERED] * 4
    whole = TemplateRenderer(chat_base.path("model"), None, None)
    assert whole.render(TALK) == f"<s>{RENDERED}</s>"


def test_conversations_that_cannot_be_used_are_counted(chat_base: Artifact, tmp_path: Path) -> None:
    def talk(content: Any) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": content}]}

    path = records(
        tmp_path / "chat.jsonl",
        {"messages": TALK},
        {"messages": None},
        {"messages": []},
        talk(None),
        talk([{"type": "image"}]),
        {"messages": TALK[:1] * 2},
        *(talk(f"a{mark}b") for mark in ("<|im_end|>", "&lt;/s&gt;", "\uff1c/s\uff1e", "</\u200bs>")),
    )
    replay = [{"path": path, "chat": "messages"}]
    corpus, _, _ = run(chat_base, tmp_path, domain=[domain(tmp_path)], replay=replay)
    counts = read_index(corpus).sources["replay"]
    found = {reason: count for reason, count in counts.removed_documents.items() if count}
    assert found == {
        "empty": 2,
        "message_without_content": 1,
        "content_not_text": 1,
        "refused_by_template": 1,
        "special_token_in_message": 4,
    }
    assert counts.documents_in == 10


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "a"}, "no field 'messages'; its fields are: text"),
        ({"messages": "hello"}, "holds a string, not a list of messages"),
        ({"messages": ["hello"]}, "message 1 of field 'messages' has no role"),
        ({"messages": [{"role": "narrator", "content": ""}]}, "the unknown role narrator"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "half of a surrogate pair"),
    ],
)
def test_what_is_no_conversation_is_named_with_its_line(
    chat_base: Artifact, tmp_path: Path, row: dict[str, Any], says: str
) -> None:
    path = records(tmp_path / "chat.jsonl", row)
    with pytest.raises(SourceError) as caught:
        run(chat_base, tmp_path, domain=[domain(tmp_path)], replay=[{"path": path, "chat": "messages"}])
    assert f"{path}:1: " in str(caught.value)
    assert says in str(caught.value)


def test_conversations_of_the_domain_are_trained_on_only(chat_base: Artifact, tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"Question {number}?"}]} for number in range(60)]
    chat = {"path": records(tmp_path / "chat.jsonl", *rows), "chat": "messages"}
    least = {"documents": 12, "bytes": 1, "most": 0.2}
    corpus, _, _ = run(chat_base, tmp_path, domain=[domain(tmp_path), chat], heldout_min=least)
    splits = read_index(corpus).sources["domain"].splits
    assert splits["train"].marked == 60
    assert splits["heldout"].documents >= 12
    assert not any("Question" in document.text for document in read_documents(corpus, "domain", "heldout"))


def test_conversations_are_checked_before_anything_runs(base: Artifact) -> None:
    chat = {"path": "a.jsonl", "chat": "messages"}
    assert problems(base, replay=[chat])["replay.0.chat"] == "the base model has no chat template"
    assert "cannot be measured" in problems(general=[chat])["general.0.chat"]
    assert "no fields with conv" in problems(replay=[{**chat, "format": "pdf"}])["replay.0.chat"]
    assert "transliterate" in str(problems(replay=[{**chat, "transliterate": True}]))
    for wrong in ({}, {"prompt": "a"}, {"messages": "a", "prompt": "b", "completion": "c"}):
        with pytest.raises(ValidationError):
            Source.model_validate({"path": "a", "chat": wrong})


LONG_TALK = [
    *TALK,
    {"role": "user", "content": "And 39?"},
    {"role": "assistant", "content": "Yes, it is."},
    {"role": "user", "content": "Thanks"},
]


def learnt(document: Document) -> list[str]:
    """The stretches of a document on which the loss has weight 1."""
    ends = [0, *(end for end, _ in document.loss_weights)]
    runs = zip(ends, ends[1:], (weight for _, weight in document.loss_weights), strict=False)
    return [document.text[begin:end] for begin, end, weight in runs if weight == 1]


def prompted(path: str, *, weight: float = 0, **chat: str) -> dict[str, Any]:
    return {"path": path, "chat": {**(chat or {"messages": "messages"}), "prompt_weight": weight}}


@pytest.mark.parametrize("marks", [("<s>", "</s>"), (None, None)], ids=["marks", "none"])
def test_answers_are_learnt_with_the_token_that_ends_their_turn(
    chat_base: Artifact, tmp_path: Path, marks: tuple[str | None, str | None]
) -> None:
    path = records(tmp_path / "chat.jsonl", {"messages": LONG_TALK, "q": "Ill?", "a": "No."})
    renderer = TemplateRenderer(chat_base.path("model"), *marks)
    sources = [
        Source.model_validate(prompted(path)),
        Source.model_validate(prompted(path, prompt="q", completion="a")),
        Source.model_validate({"path": path, "chat": "messages"}),
    ]
    talk, pair, whole = read_sources(sources, _Silent(), {}, renderer)
    end = "\n" if marks[1] else "\n</s>"  # which the corpus adds otherwise
    assert learnt(talk) == ["No.<|im_end|>", "Yes, it is.<|im_end|>"]
    assert learnt(pair) == [f"No.<|im_end|>{end}"]
    assert [document.loss_weights[-1][0] for document in (talk, pair)] == [len(talk.text), len(pair.text)]
    assert (whole.text, whole.loss_weights) == (talk.text, ())


def test_short_answers_end_where_they_end_after_a_long_start_token(
    chat_base: Artifact, tmp_path: Path
) -> None:
    folder, long = chat_base.path("model"), "<|begin_of_a_long_text|>"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([long])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("{{ bos_token }}", long))
    path = records(tmp_path / "chat.jsonl", {"messages": LONG_TALK})
    renderer = TemplateRenderer(folder, long, None)
    [talk] = read_sources([Source.model_validate(prompted(path))], _Silent(), {}, renderer)
    assert not talk.text.startswith(long)
    assert learnt(talk) == ["No.<|im_end|>", "Yes, it is.<|im_end|>"]


def test_a_conversation_may_begin_with_the_assistant(chat_base: Artifact, tmp_path: Path) -> None:
    folder = chat_base.path("model")
    template = TEMPLATE.replace("{% for", "{{ messages[0].role and '' }}{% for", 1)
    template = template.replace("loop.index0 % 2", "loop.index0 > 9")
    (folder / "chat_template.jinja").write_text(template)
    path = records(tmp_path / "chat.jsonl", {"messages": [{"role": "assistant", "content": "Hello."}, *TALK]})
    renderer = TemplateRenderer(folder, "<s>", "</s>")
    [talk] = read_sources([Source.model_validate(prompted(path))], _Silent(), {}, renderer)
    assert isinstance(talk, Document), talk
    assert learnt(talk) == ["<|im_start|>assistant\nHello.<|im_end|>", "No.<|im_end|>\n"]


def test_the_weight_of_prompts_is_that_of_their_tokens(chat_base: Artifact, tmp_path: Path) -> None:
    path = records(tmp_path / "chat.jsonl", {"messages": TALK})
    settings = {"domain": [domain(tmp_path)], "sequence_length": 128, "end_token": None}
    tokenizer = load_tokenizer(chat_base.path("model"))
    for weight in (0, 0.25):
        replay = [prompted(path, weight=weight), write(tmp_path / "plain.jsonl", "plain text")]
        corpus, _, _ = run(chat_base, tmp_path / str(weight), replay=replay, **settings)
        counts = read_index(corpus).sources["replay"].splits["train"]
        source = open_source(corpus, "replay")
        [row] = [source.sequence(number) for number in range(len(source))]
        assert row.weights is not None
        talk, plain = np.split(np.arange(len(row.tokens)), row.piece_lengths[:1])
        assert (row.weights[plain] == 1).all()
        chosen = talk[1:][row.weights[talk[1:]] == 1]
        assert (
            tokenizer.decode(row.tokens[chosen].tolist(), skip_special_tokens=False) == "No.<|im_end|>\n</s>"
        )
        assert set(row.weights[talk[1:]].tolist()) == {weight, 1}
        prompts = len(talk) - 1 - len(chosen)
        assert counts.tokens_without_loss == (0 if weight else prompts)
        assert source.without_loss.tolist() == [0 if weight else prompts]


def test_conversations_without_a_place_for_their_answers_are_counted(
    chat_base: Artifact, tmp_path: Path
) -> None:
    former = "{{ m.content | upper if m.role == 'assistant' and not loop.last else m.content }}"
    template = TEMPLATE.replace("{{ m.content }}", former)
    (chat_base.path("model") / "chat_template.jinja").write_text(template)
    path = records(
        tmp_path / "chat.jsonl", {"messages": TALK}, {"messages": LONG_TALK}, {"messages": TALK[:1]}
    )
    corpus, _, _ = run(chat_base, tmp_path, domain=[domain(tmp_path)], replay=[prompted(path)])
    counts = read_index(corpus).sources["replay"]
    assert {reason: count for reason, count in counts.removed_documents.items() if count} == {
        "answer_not_found": 1,
        "no_answer": 1,
    }
    assert counts.splits["train"].documents == 1


def test_a_weight_of_prompts_is_a_share(chat_base: Artifact) -> None:
    for wrong in (-0.1, 1.5):
        with pytest.raises(ValidationError):
            Source.model_validate(prompted("a.jsonl", weight=wrong))


# The hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data set `org/name` with two subsets, that `datasets` loads from a local folder."""
    folder = tmp_path / "hub"
    for subset in ("law", "medicine"):
        (folder / subset).mkdir(parents=True)
        for split in ("train", "test"):
            rows = [{"text": f"{subset} {split} {number}", "n": number} for number in range(20)]
            records(folder / subset / f"{split}.jsonl", *rows)
    configs = [{"config_name": name, "data_dir": name} for name in ("law", "medicine")]
    (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    load = datasets.load_dataset

    def local(repo: str, revision: str, **options: Any) -> Any:
        assert (repo, revision) == ("org/name", "c" * 40)
        return load(str(folder), **options)

    monkeypatch.setattr(datasets, "load_dataset", local)
    return f"hub:datasets/org/name@{'c' * 40}"


def hub_texts(**source: Any) -> list[str]:
    return [item.text for item in read_sources([Source.model_validate(source)], _Silent(), {})]


class _Silent:
    def message(self, text: str) -> None: ...

    def update(self, done: int, total: int, unit: str, **facts: float) -> None: ...


def test_a_data_set_of_the_hub_is_read_as_a_stream(hub: str) -> None:
    assert fingerprint(hub) == "c" * 40
    assert hub_texts(path=hub, subset="law") == [f"law train {number}" for number in range(20)]
    assert hub_texts(path=hub, subset="medicine", split="test", limit=2) == [
        "medicine test 0",
        "medicine test 1",
    ]
    [item, *_] = read_sources(
        [Source.model_validate({"path": hub, "subset": "law", "metadata": ["n"]})], _Silent(), {}
    )
    assert (item.id, item.metadata) == ("org/name/train:1", {"n": 0})  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({}, r"law(.|\n)*medicine(.|\n)*Set `subset`"),
        ({"subset": "law", "split": "dev"}, r"dev(.|\n)*Set `split`"),
        ({"subset": "law", "text_field": "txt"}, "no column 'txt'; its columns are: text, n"),
    ],
)
def test_what_a_data_set_of_the_hub_lacks_is_named(hub: str, source: dict[str, str], says: str) -> None:
    with pytest.raises((ReferenceUnavailable, SourceError), match=says):
        hub_texts(path=hub, **source)


# Limits, patterns, addresses


def test_a_limit_reads_the_beginning_and_compares_it_all_the_same(base: Artifact, tmp_path: Path) -> None:
    source = domain(tmp_path)
    corpus, _, _ = run(base, tmp_path, domain=[{**source, "limit": 30}])
    assert sorted(kept(corpus)) == sorted(f"domain text {number}" for number in range(30))
    context = {source["path"]: "0" * 64}
    with pytest.raises(DataError, match="changed while it was read"):
        list(read_sources([Source(path=source["path"], limit=3)], _Silent(), context))
    good = {source["path"]: fingerprint(source["path"])}
    assert len(list(read_sources([Source(path=source["path"], limit=3)], _Silent(), good))) == 3


def test_a_file_that_changes_after_a_limit_is_noticed(base: Artifact, tmp_path: Path) -> None:
    source, away = domain(tmp_path), tmp_path / "away"
    path, planned = Path(source["path"]), {source["path"]: fingerprint(source["path"])}
    content = path.read_bytes()
    path.rename(away)
    path.write_bytes(content.replace(b"domain", b"common"))
    reading = read_sources([Source(path=str(path), limit=2)], _Silent(), planned)
    assert next(reading).text == "common text 0"
    away.replace(path)
    with pytest.raises(DataError, match="changed while it was read"):
        list(reading)


def test_patterns_and_addresses_are_sources(base: Artifact, tmp_path: Path) -> None:
    (tmp_path / "d" / "sub").mkdir(parents=True)
    write(tmp_path / "d" / "a.jsonl", *(f"local {number}" for number in range(40)))
    write(tmp_path / "d" / "sub" / "b.jsonl", "other")
    store = fsspec.filesystem("memory")
    store.pipe("/sources/a.txt", b"stored text")
    pattern, address = f"{tmp_path}/d/*.jsonl", "memory://sources/*.txt"
    sources = [{"path": pattern}, {"path": address}]
    context = {"contents": {each: fingerprint(each) for each in (pattern, address)}}
    settings = {"domain": sources, "heldout": 0.1, "heldout_min": {"documents": 1, "bytes": 1}}
    place = Context(
        output=tmp_path / "out", work=tmp_path / "work", seed=1, progress=_Silent(), recipe={}, **context
    )
    STAGE.run(CorpusConfig.model_validate(settings), {"model": base}, place)
    texts = kept(tmp_path / "out" / "corpus")
    assert sorted(texts) == sorted(["stored text", *(f"local {number}" for number in range(40))])


# Facts


def test_every_listed_source_is_counted_with_its_facts(base: Artifact, tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", *(f"text {number}" for number in range(60)), "", "same caf\u00e9")
    second = write(tmp_path / "b.jsonl", "same caf\u00e9", *(f"more {number}" for number in range(20)))
    facts = {"name": "books", "licence": "CC-BY-4.0", "language": "pt-BR"}
    corpus, metrics, _ = run(
        base, tmp_path, domain=[{**first, **facts}, second], heldout_min={"documents": 12, "bytes": 1}
    )
    counts = read_index(corpus).sources["domain"]
    books, other = counts.listed["books"], counts.listed[second["path"]]
    assert (books.licence, books.language, books.path) == ("CC-BY-4.0", "pt-BR", first["path"])
    assert (books.documents_in, counts.kept("books").documents) == (62, 61)
    assert (other.documents_in, counts.kept(second["path"]).documents) == (21, 20)
    assert counts.splits["heldout"].documents == 12
    for what in ("documents", "bytes"):
        assert getattr(books, f"{what}_in") + getattr(other, f"{what}_in") == getattr(counts, f"{what}_in")
        for split in counts.splits.values():
            assert sum(getattr(each, what) for each in split.listed.values()) == getattr(split, what)
    assert metrics["sources"]["domain"]["listed"]["books"]["licence"] == "CC-BY-4.0"


def test_counts_of_listed_sources_follow_a_selection(base: Artifact, tmp_path: Path) -> None:
    sources = [
        write(tmp_path / f"{name}.jsonl", *(f"{name} document number {number}" for number in range(40)))
        for name in ("a", "b")
    ]
    select = {"tokens": 600, "by": "random", "min_tokens": 8, "max_repetition": 1}
    corpus, _, _ = run(base, tmp_path, domain=sources, select=select)
    counts = read_index(corpus).sources["domain"]
    train = counts.splits["train"]
    assert 0 < train.documents < 60
    assert sum(each.documents for each in train.listed.values()) == train.documents
    assert sum(each.bytes for each in train.listed.values()) == train.bytes


def test_sources_have_different_names() -> None:
    sources = [Source(path="a"), Source(path="a", format="text"), Source(path="b", name="a")]
    assert source_names(sources) == ["a", "a (2)", "a (3)"]
    assert source_names([Source(path=path) for path in ("a", "a (2)", "a")]) == ["a", "a (2)", "a (3)"]


@pytest.mark.parametrize("tag", ["en", "pt-BR", "zh-Hant-TW", "sr-Latn", "de-1996", "es-419"])
def test_languages_are_tags(tag: str) -> None:
    assert Source(path="a", language=tag).language == tag
    for wrong in ("english", "e", "en_US", "", "en-"):
        with pytest.raises(ValidationError):
            Source(path="a", language=wrong)


def test_packed_text_does_not_depend_on_facts(base: Artifact, tmp_path: Path) -> None:
    rows = [{"text": f"domain text {number}", "n": number} for number in range(80)]
    path = records(tmp_path / "a.jsonl", *rows)
    plain, _, _ = run(base, tmp_path, "plain", domain=[{"path": path}])
    facts = {"name": "x", "licence": "MIT", "language": "en", "metadata": ["n"]}
    with_facts, _, _ = run(base, tmp_path, "facts", domain=[{"path": path, **facts}])
    shards = [sorted((corpus / "tokens").rglob("*.*")) for corpus in (plain, with_facts)]
    assert shards[0]
    assert [file.read_bytes() for file in shards[0]] == [file.read_bytes() for file in shards[1]]
    [document, *_] = read_documents(with_facts, "domain", "train")
    assert document.metadata == {"n": int(document.text.split()[-1])}


# Checks


@pytest.mark.parametrize(
    ("source", "key", "says"),
    [
        ({"path": "a.jsonl", "subset": "x"}, "subset", "only a data set of the hub"),
        ({"path": "a.jsonl", "split": "x"}, "split", "no splits"),
        ({"path": "a.txt", "metadata": ["x"]}, "metadata", "text has no fields"),
        ({"path": "a.jsonl", "delimiter": ";"}, "delimiter", "jsonl has no delimiter"),
        ({"path": "hub:datasets/o/n", "format": "csv"}, "format", "that `datasets` finds"),
        ({"path": "https://host/a.bin"}, "format", "cannot be told from its name"),
    ],
)
def test_keys_that_change_nothing_are_refused(source: dict[str, Any], key: str, says: str) -> None:
    assert says in problems(domain=[source])[f"domain.0.{key}"]


def test_a_missing_library_is_found_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extracted.LIBRARIES, "pdf", "no_such_module")
    said = "format pdf needs no_such_module: pip install 'cpt-workbench[documents]'"
    for path in ("a.pdf", "data/*.pdf", "s3://bucket/a.pdf"):
        assert problems(domain=[{"path": path}])["domain.0.format"] == said


def test_splits_of_a_saved_data_set_are_checked(tmp_path: Path) -> None:
    splits = {name: datasets.Dataset.from_dict({"text": [name]}) for name in ("train", "test")}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "d")
    source = {"path": str(tmp_path / "d")}
    assert "several splits: train, test" in problems(domain=[source])["domain.0.split"]
    assert problems(domain=[{**source, "split": "train"}]) == {}
