"""Measurements on a real stack: ``python -m benchmarks --help``."""
