"""Compare several runs, as facts (JSON) and as one self-contained HTML page.

`gather` reads the runs, `facts.compare` compares their facts, `page.render` draws them as HTML.
"""
