"""surecount: counts and sums over Kafka that stay exact through failures and can be audited."""

__version__ = "0.1.0"
