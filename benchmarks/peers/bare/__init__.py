"""A consumer, orjson and a dict: the ceiling of plain Python."""
