"""What the server of forked commands imports, as quietly as the command does."""

from importlib import import_module

from cpt.cli.silence import silence_libraries

silence_libraries()
for _module in (
    "cpt.cli",
    "cpt.stages.corpus.stage",
    "cpt.stages.evaluate.stage",
    "cpt.stages.merge.stage",
    "cpt.stages.pretrain.stage",
    "cpt.stages.report",
    "cpt.stages.vocabulary.stage",
    "cpt.models.packed_model",
    "transformers.models.llama.modeling_llama",
    "evals.runner",
    "merging.merge",
):
    import_module(_module)
