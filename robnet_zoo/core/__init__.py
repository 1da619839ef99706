"""The parts that know nothing of networks: strict documents, statistics, precision, environment, progress."""
