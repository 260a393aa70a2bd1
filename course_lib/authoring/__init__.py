"""Tools for those who write the course and teach it. Only the command line imports them.

form        the canonical form of a notebook in git
chapter     what is missing from a notebook to be a chapter
notebooks   `make notebooks`: run the chapters and bring them into that form
readme      fill in the README's tables
course_map  the table of chapters, modules and tests
editions    the course for students, lecturers, Colab and nbgrader (keyless, experiments, lecturer,
            nbgrader)
grade       verdicts on submissions (submissions, attempts, sandbox, class_picture)
"""

__all__ = ["chapter", "course_map", "form", "notebooks", "readme"]
