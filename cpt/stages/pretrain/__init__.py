"""The pretrain stage: continue the model's training on a corpus, and watch what it forgets."""
