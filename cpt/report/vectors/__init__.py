"""Task vectors on a page, and as a section of the run report."""
