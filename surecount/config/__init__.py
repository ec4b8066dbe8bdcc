"""A pipeline is one TOML file: its model, its defaults, and errors that say what would be right."""

from surecount.config.loading import check_name, json_schema, load, parse
from surecount.config.pipeline import LARGEST_RECORD, Pipeline
from surecount.config.security import Security
from surecount.config.source import EventTimeField, Kafka, Pathway
from surecount.config.units import format_duration, parse_duration, parse_size

__all__ = [
    "LARGEST_RECORD",
    "EventTimeField",
    "Kafka",
    "Pathway",
    "Pipeline",
    "Security",
    "check_name",
    "format_duration",
    "json_schema",
    "load",
    "parse",
    "parse_duration",
    "parse_size",
]
