"""Tools for writing and teaching the course. Only the command line imports them.

form        the canonical form of a notebook in git
chapter     what a notebook needs to be a chapter
notebooks   `make notebooks`: run the chapters and save them in that form
readme      fill in the README's tables
site        `make site`: the website
course_map  the table of chapters, modules and tests
editions    the course for students, lecturers, Colab and nbgrader (keyless, experiments, lecturer,
            nbgrader)
playground  the model in a web page: ONNX files, the page, its server
grade       verdicts on submissions (submissions, attempts, sandbox, class_picture)
"""

__all__ = ["chapter", "course_map", "form", "notebooks", "readme"]
