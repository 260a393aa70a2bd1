"""The exercises' references and known misconceptions, one module for each chapter.

A module `ch07.py` holds `EXERCISES = {"7.1": Code(...), "7.2": Choice(...), ...}`.
"""
