"""Flink SQL's window aggregation."""
