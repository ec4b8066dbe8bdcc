"""The commands whose functions are too long for the command line's own module."""
