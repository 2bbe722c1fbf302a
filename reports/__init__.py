"""Statistics, comparison, charts and the HTML page, from the records of a run."""
