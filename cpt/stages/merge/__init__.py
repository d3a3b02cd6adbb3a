"""The merge stage: merge task vectors or average checkpoints, with given or searched weights."""
