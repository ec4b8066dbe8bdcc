"""Kafka Streams, a library of Java's over Kafka."""
