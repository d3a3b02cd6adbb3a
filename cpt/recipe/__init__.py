"""Recipes: read and checked (`load`), planned (`plan`), run (`runner`), and kept (`store`)."""
