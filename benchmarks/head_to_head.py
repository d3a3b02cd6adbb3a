"""Compare cpt with what people use today at equal wall-clock time: domain against general text.

    python benchmarks/head_to_head.py --domain medical=FILE --domain legal=FILE --domain finance=FILE \\
        --general FILE --minutes 7 --llama-factory-python lf/bin/python

Peers: LLaMA-Factory's `pt` stage with all weights and with LoRA, by the settings of its examples but for the
batch, each at three rates with the first seed and at its best one with the others; and the Hugging Face
Trainer. Ours: the recipe `head_to_head/ours.yaml` at two peaks. It is no preset, but as plain as what peers
do. Each of its trainings gives a front: the trained model, and merges of it with its base.

All have batches of 4 sequences of 256 tokens, which a peer computes at once: one by one, LLaMA-Factory takes
5.8 s instead of 5.5 s for a step of all weights on one core, and 4.8 s instead of 4.1 s for one of LoRA
(means of five steps after the first).

Time is what a user waits for once the text is there: from the start of the process over reading, tokenising,
sampling, training and merging to the written model. The steps of a contender are chosen so that it ends after
--minutes: by a short run of the same contender, then by its last run. A run that is off by more than 10% is
made once more. A point of ours takes the time of the whole run without the other merges.

A rate that was tried with one seed stands in the table, and is no peer's best. Ours has more candidates: the
points of both peaks, each with all seeds.

All models are read by cpt's own measuring code, on the same held-out documents, which nobody trained on or
chose by. Every seed has documents of its own. Merge weights are chosen on other held-out text.

A command that was stopped goes on where it was; finished runs, in --runs, are not made again. `--dry-run`
says how many runs and hours there are. LLaMA-Factory has an environment of its own; the help of
benchmarks/training.py ends with the commands that make it.
"""

from head_to_head.command import main  # the package beside this file, which comes before it

if __name__ == "__main__":
    main(__doc__)
