"""`python -m course_lib.cli`, which is the command `course`."""

from course_lib.cli.app import main

if __name__ == "__main__":
    main()
