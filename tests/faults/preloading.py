"""What the server of forked commands imports, as quietly as the command does."""

from importlib import import_module

from cpt.cli.quiet import quiet_libraries

quiet_libraries()
for _module in (
    "cpt.cli",
    "cpt.stages.corpus",
    "cpt.stages.evaluate",
    "cpt.stages.merge",
    "cpt.stages.pretrain",
    "cpt.stages.report",
    "cpt.stages.vocabulary",
    "cpt.packed.model",
    "transformers.models.llama.modeling_llama",
    "evals.runner",
    "merging.merge",
):
    import_module(_module)
