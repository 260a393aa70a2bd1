"""What all other folders use: input checks, files, checkpoints, devices, choosing by name."""
