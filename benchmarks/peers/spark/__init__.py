"""Spark Structured Streaming, from Python."""
