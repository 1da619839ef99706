"""The report of a reproduced table or figure."""
