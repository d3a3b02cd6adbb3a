"""Compare ways to give a model a new vocabulary, so that a user chooses by figures."""
