"""Continue the training of a model on a corpus, and watch what it forgets: the pretrain stage."""
