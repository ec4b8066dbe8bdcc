"""Breaks things on purpose, by a schedule that comes from a seed, and judges what a reader saw meanwhile."""
