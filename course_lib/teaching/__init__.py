"""What exists only for the reader: figures, widgets, exercise checks and the notebook tool."""
