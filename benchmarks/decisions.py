"""Settings decided by measurement: studies of short trainings of SmolLM2, with three seeds and intervals.

    python benchmarks/decisions.py STUDY --domain us_code=FILE --domain italian=FILE \\
        --replay FILE --general FILE

replay: shares of replay, for each --domain.
rewarming: peaks and warm-ups of the rate, and a model of the same shape with random weights that learns the
    same text (from scratch).
kinds: schedules of one text, *power* with published and with adapted rates among them.
batch: sequences of a batch and peaks of the rate, at equal tokens.
optimizers: optimizers and adapters at equal tokens, with the peak memory of each.
optimizers-memory: the same in the memory of the cheapest, for the time that AdamW takes there.
schedules: three texts (--domain), one after the other, by four schedules, with and without replay.
optimizer-state: the same texts by one schedule, with a fresh optimizer for each and with one carried on.
law: a mixture law of small runs, its predictions of other runs, and the mixture that it advises.
skills: the texts as parts of one domain: online mixing, equal shares, and a law's mixture.

Runs and pages of sweeps are in --runs. A command that was stopped goes on where it was. Before it begins it
says how long it will take, at --rate training tokens per second (SmolLM2-135M has 250 to 450 of them on two
cores): hours with `--plan full`, less than an hour for each domain (three texts: for all) with
`--plan short`. `--dry-run` only says it.
"""

from decisions.command import main  # the package beside this file, which comes before it

if __name__ == "__main__":
    main(__doc__)
