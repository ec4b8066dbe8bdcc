"""The roles of the container image, which ``deploy/entrypoint.sh`` starts."""
