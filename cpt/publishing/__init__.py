"""Make a folder of a run's model that others can use: weights, tokenizer, model card, recipe."""
