"""Quix Streams, a library of Python's over Kafka."""
