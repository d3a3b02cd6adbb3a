"""The merge stage: merge task vectors or average checkpoints, with weights given or searched for."""
