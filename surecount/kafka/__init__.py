"""What every client of Kafka shares."""
