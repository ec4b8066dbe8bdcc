"""What is done to running jobs."""
