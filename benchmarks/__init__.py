"""One script a question; each prints a table and the ratio to a floor of the same run."""
