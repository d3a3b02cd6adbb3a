"""Import what a command needs into the server of forked commands, as quietly as the command does."""

import os
from importlib import import_module

from cpt.cli.silence import silence_libraries

silence_libraries()
os.fsync = lambda _: None  # type: ignore[assignment]  # no test ends with a power loss; each costs 8 ms
for _module in (
    "cpt.cli",
    "cpt.stages.corpus.stage",
    "cpt.stages.evaluate.stage",
    "cpt.stages.merge.stage",
    "cpt.stages.pretrain.stage",
    "cpt.stages.report",
    "cpt.stages.vocabulary.stage",
    "cpt.models.packed_model",
    "cpt.training.loop",
    "cpt.training.distributed.collectives",
    "transformers.models.llama.modeling_llama",
    "evals.harness",
    "sklearn.feature_extraction.text",
    "matplotlib.figure",
    "matplotlib.backends.backend_svg",
    "datasets",
    "cpt.report.page",
    "merging.run",
):
    import_module(_module)
