"""Kafka and Flink as processes of this machine: :class:`surecount.local.stack.Stack`."""
