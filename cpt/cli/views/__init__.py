"""Show the events of a run: on a terminal (`tty`), or as log lines (`log`)."""
