"""Tools for those who write the course. Nothing else imports them.

form        the canonical form of a notebook in git
chapter     what is missing from a notebook to be a chapter
notebooks   `make notebooks`: run the chapters and bring them into that form
readme      fill in the README's tables
course_map  the table of chapters, modules and tests
"""

__all__ = ["chapter", "course_map", "form", "notebooks", "readme"]
