"""Tools for those who write the course: notebooks in their one form, lint, README tables."""
