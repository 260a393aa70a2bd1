"""The website: every chapter with its saved outputs, the reference, the map, the licences.

    make site                                          # into outputs/site
    python -m course_lib.authoring.site OUT [--play FOLDER]

build       pages into a temporary folder, Sphinx over them, the result to OUT
pages       what becomes a page: chapters, README, glossary, map, licences
reference   the pages of the API, with the equations that each module's tests check
docstrings  our docstrings, which are plain text, as Sphinx wants them
extension   what we add to Sphinx: formulas as MathML, the figures' alt texts

Why Sphinx with myst-nb and furo: it reads notebooks as they are, writes plain pages that ask no
other server for anything, and its search runs in the reader's browser. Furo's style sheet and
script are 70 kB, where sphinx-book-theme brings Bootstrap and an icon font of 2 MB. Formulas become
MathML at build time, as on the slides: browsers draw it themselves and screen readers read it, so
no page needs MathJax (1 to 2 MB). The font for it, STIX Two Math, is in `static/`.
"""

__all__ = ["build", "docstrings", "extension", "pages", "reference"]
