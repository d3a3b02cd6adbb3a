"""Serve a live report page of a running run on this machine, from the files it has written so far."""
