"""Timing scripts. Each compares two things in one run and writes a document."""
