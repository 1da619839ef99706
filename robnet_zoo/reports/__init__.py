"""Reports drawn from documents, with one set of elements, one page and one chart engine."""
