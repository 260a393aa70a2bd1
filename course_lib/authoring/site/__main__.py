"""`python -m course_lib.authoring.site OUT [--play FOLDER]`"""

import argparse
from pathlib import Path

from course_lib.authoring.site.build import build

parser = argparse.ArgumentParser(description="Build the website.")
parser.add_argument("out", type=Path, help="the folder to write; an earlier site there is replaced")
parser.add_argument("--play", type=Path, help="a folder that becomes the page play/")
arguments = parser.parse_args()
build(arguments.out, arguments.play)
print(f"{arguments.out / 'index.html'}: open it in a browser")
