"""The run report: what a run changed, as facts (JSON) and as one self-contained HTML page.

`facts.gather` change_points the records of finished stages into `schema.Facts`; `page.render` draws them.
"""
