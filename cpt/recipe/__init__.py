"""Recipes: read and checked (`load`), planned (`plan`), run (`runner`), kept (`store`), compared (`diff`)."""
