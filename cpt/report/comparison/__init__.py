"""Several runs compared: as facts (JSON) and as one self-contained HTML page.

`facts.compare` sets the facts of finished runs side by side; `page.render` draws them.
"""
