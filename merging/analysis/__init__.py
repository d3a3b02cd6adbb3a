"""Task vectors measured: how long they are and where, how they lie to each other, where they disagree."""
