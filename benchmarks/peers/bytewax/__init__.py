"""Bytewax, a dataflow engine for Python, in Rust."""
