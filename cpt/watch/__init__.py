"""A run looked at while it goes on: a page on this machine, made of what the run has written so far."""
