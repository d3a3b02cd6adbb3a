"""Continue the pretraining of a model: the loop, its features, schedules, optimizers and objectives."""
