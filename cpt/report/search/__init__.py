"""A search for merge weights on a page of its own."""
