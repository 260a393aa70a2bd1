"""What everything else stands on: checks of input, files, checkpoints, devices, choice by name."""
