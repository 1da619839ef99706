"""What knows nothing of networks: strict documents, statistics, precision, environment, progress."""
