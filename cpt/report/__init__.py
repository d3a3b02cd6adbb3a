"""Report what a run changed, as facts (JSON) and as one self-contained HTML page.

`facts.gather` turns the records of finished stages into `schema.Facts`. `page.render` draws them as HTML.
"""
