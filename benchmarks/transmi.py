"""TransMI on a Unigram vocabulary: what Latin spellings of the tokens do for transliterated text.

    python benchmarks/transmi.py --text russian.jsonl --language rus

A small Llama with a Unigram vocabulary learns the text in its own script, from scratch. Then the same text in
Latin letters is read: by the model as it is, and by the model whose vocabulary got the Latin spellings, by
each rule. All are read in windows that hold the same words, and bits are per byte of the text in its own
script, also where its Latin letters are read.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import record
import torch
from tokenizers import Encoding, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cpt.corpus import TrainingStream, open_source, read_documents, read_index, retokenise
from cpt.corpus.documents import Document
from cpt.corpus.readers import read
from cpt.initialiser_trial.methods import build_corpus
from cpt.initialiser_trial.probe import ProbeSettings, probe
from cpt.models.bits_per_byte import TokenisedText
from cpt.models.packed_model import load_model
from cpt.models.shared_windows import Reader, cut_document, encoded, joined
from cpt.models.tokenizer import load_tokenizer
from cpt.progress import NullProgress
from cpt.sources import DOMAIN
from cpt.stages.vocabulary.change import change_vocabulary
from cpt.stages.vocabulary.config import VocabularyConfig
from cpt.training.checkpoint.policy import Checkpoints
from cpt.training.loop import train
from cpt.training.optimizers import AdamW
from cpt.training.schedules import RewarmCosine
from cpt.training.settings import Settings


def write_model(folder: Path, texts: list[str], tokens: int) -> None:
    """An untrained Llama of 12 million parameters with a Unigram vocabulary learnt from the texts."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "</s>", "<unk>"]
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.UnigramTrainer(
        vocab_size=tokens, special_tokens=special, unk_token="<unk>", initial_alphabet=list(letters)
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def learn(folder: Path, corpus: Path, steps: int, output: Path) -> None:
    """Train the model on the corpus and save it beside its tokenizer."""
    settings = Settings(
        steps=steps,
        micro_batch=16,
        schedule=RewarmCosine(peak=1e-3, floor=1e-4),
        optimizer=AdamW(),
        clip=1.0,
        dtype=torch.float32,
        checkpoint=Checkpoints(every=steps + 1),
    )
    model = load_model(folder)
    stream = TrainingStream({DOMAIN: open_source(corpus, DOMAIN)}, 0, 16, 17)
    with tempfile.TemporaryDirectory() as work:
        train(model, stream, [], settings, Path(work), NullProgress())
    model.save_pretrained(output)
    PreTrainedTokenizerFast.from_pretrained(folder).save_pretrained(output)


def texts_of(file: Path) -> list[str]:
    """The documents of a file."""
    return [item.text for item in read(file) if isinstance(item, Document)]


def split(file: Path, folder: Path) -> tuple[Path, Path]:
    """Two files of the documents in their own script: to train on, and every twentieth to measure on."""
    parts = (folder / "train.jsonl", folder / "heldout.jsonl")
    lines: tuple[list[str], list[str]] = ([], [])
    for number, text in enumerate(texts_of(file)):
        lines[number % 20 == 0].append(json.dumps({"text": text}) + "\n")
    for part, content in zip(parts, lines, strict=True):
        part.write_text("".join(content), encoding="utf-8")
    return parts


@dataclass(frozen=True)
class Spelling:
    """A text's tokens in Latin letters, placed in the text in its own script; a `tokenizers.Encoding` to
    `cut_document`. A token within a word stands for all of the word, so windows end with words."""

    ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.ids)


def placed(encoding: Encoding, latin: list[str], native: list[str]) -> Spelling:
    """Place the tokens of words in Latin letters in as many words of the text in its own script.

    Each word is taken with the space before it.
    """
    ends_of_latin, ends_of_native = (
        np.cumsum([len(word) + (number > 0) for number, word in enumerate(words)])
        for words in (latin, native)
    )

    def word_of(place: int) -> int:
        return min(int(np.searchsorted(ends_of_latin, place, side="right")), len(native) - 1)

    begins = [0, *ends_of_native.tolist()]
    offsets = [
        (begins[word_of(begin)], begins[word_of(max(begin, end - 1)) + 1]) for begin, end in encoding.offsets
    ]
    return Spelling(encoding.ids, encoding.tokens, offsets)


def pairs(native: Path, latin: Path, size: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """Words of held-out documents in both scripts, in a seeded order until they hold `size` bytes.

    Documents whose transliteration has another number of words are left out.
    """
    spelt = {document.id: document.text.split() for document in read_documents(latin, "general", "heldout")}
    documents = {d.id: d.text.split() for d in read_documents(native, "general", "heldout")}
    same = [(words, spelt[id]) for id, words in documents.items() if len(words) == len(spelt.get(id, ()))]
    print(f"{len(same)} of {len(documents)} documents have as many words in both scripts", flush=True)
    taken, left = [], size
    for at in np.random.default_rng(seed).permutation(len(same)):
        lengths = np.cumsum([len(word.encode()) + 1 for word in same[at][0]])
        count = int(np.searchsorted(lengths, min(left, size // 10)))
        if count:
            taken.append((same[at][0][:count], same[at][1][:count]))
            left -= int(lengths[count - 1])
    return taken


def shared_texts(
    native: Path, latin: dict[str, Path], chosen: list[tuple[list[str], list[str]]], window: int
) -> tuple[dict[str, TokenisedText], dict[str, Any]]:
    """The text in its own script and in Latin letters by every tokenizer, in windows of the same words.

    Args:
        native: tokenizer that reads the text in its own script.
        latin: tokenizers that read it in Latin letters, by name.

    Returns:
        Texts by name, `native` among them, and how much text the windows hold.
    """
    own = Reader.of(load_tokenizer(native), window, "<s>")
    readers = [own, *(Reader.of(load_tokenizer(folder), window, "<s>") for folder in latin.values())]
    texts, spelt = ([" ".join(pair[which]) for pair in chosen] for which in (0, 1))
    (in_own,) = encoded([own], texts)
    in_latin = encoded(readers[1:], spelt)
    documents = []
    for number, (text, words) in enumerate(zip(texts, chosen, strict=True)):
        spellings: list[Any] = [placed(each[number], words[1], words[0]) for each in in_latin]
        windows = [reader.windows for reader in readers]
        documents.append(cut_document(text, [in_own[number], *spellings], windows))
    shared = joined([document for document in documents if document.size])
    return dict(zip(["native", *latin], shared.texts, strict=True)), shared.bytes.as_json()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", required=True)
    parser.add_argument("--language", help="ISO 639-3 code")
    parser.add_argument("--tokens", type=int, default=16_000)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    settings = ProbeSettings(steps=(0, 50), batch_sequences=8, peak=1e-3)
    rows: list[dict[str, Any]] = []

    def keep(name: str, model: Path, corpus: Path, text: TokenisedText, facts: dict[str, Any]) -> None:
        result = probe(model, corpus, settings, {"general": text})
        per_token = read_index(corpus).bytes_per_token("general", "heldout")
        curve = result.bits_per_byte("general")
        rows.append({"vocabulary": name, "bytes_per_token": per_token, "bits_per_byte": curve, **facts})
        print(rows[-1], flush=True)

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        train_file, heldout_file = split(Path(options.text), scratch)
        texts = texts_of(train_file)
        write_model(scratch / "new", texts, options.tokens)
        corpora = {
            name: build_corpus(
                scratch / "new",
                [{"path": str(train_file), "transliterate": latin}],
                [{"path": str(heldout_file), "transliterate": latin}],
                scratch / name,
                sequence_length=128,
                heldout=0.01,
                seed=17,
                progress=NullProgress(),
            )
            for name, latin in (("native", False), ("latin", options.language or True))
        }
        base = scratch / "trained"
        learn(scratch / "new", corpora["native"], options.steps, base)
        changed: dict[str, tuple[Path, Path, dict[str, Any]]] = {
            "as it is": (base, corpora["latin"], {"added": 0})
        }
        for rule in ("max", "average", "min"):
            config = VocabularyConfig.model_validate(
                {"transliterate": {"merge": rule, "language": options.language}}
            )
            model, corpus = scratch / rule, scratch / f"{rule}-corpus"
            facts = change_vocabulary(
                config, base, lambda: iter(texts), model, seed=17, progress=NullProgress()
            )
            retokenise(corpora["latin"], model, corpus, former=base)
            said = {"added": facts["added"], "guards": facts["guards"]}
            changed[f"transmi {rule}"] = (model, corpus, said)
        chosen = pairs(corpora["native"], corpora["latin"], settings.heldout_bytes, settings.seed)
        tokenizers = {name: model for name, (model, _, _) in changed.items()}
        shared, windows = shared_texts(base, tokenizers, chosen, 128)
        own = {"general": shared["native"]}
        native = probe(base, corpora["native"], replace(settings, steps=(0,)), own)
        for name, (model, corpus, said) in changed.items():
            keep(name, model, corpus, shared[name], said)
    record.write(
        "transmi",
        {
            "settings": {**vars(options), **asdict(settings)},
            "windows": windows,
            "native_bits_per_byte": native.bits_per_byte("general")[0],
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
