"""surecount itself."""
