"""Pages, tables and charts, drawn from documents and nothing else."""
