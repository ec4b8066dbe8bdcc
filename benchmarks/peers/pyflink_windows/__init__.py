"""PyFlink's own windows."""
