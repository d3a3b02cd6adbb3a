"""The steps of the optimizers: torch's side of them, imported only to train."""
