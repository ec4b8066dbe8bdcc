"""The Flink jobs: one file a job, submitted by path."""
