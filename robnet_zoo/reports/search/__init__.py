"""The report of a search: its results as one HTML page. Every number is of `robnet_zoo.search.analysis`."""

from __future__ import annotations

from robnet_zoo.reports.search.page import html, write_report

__all__ = ["html", "write_report"]
