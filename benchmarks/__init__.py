"""Benchmarks, one script per question. Each prints a table with the ratio to a floor of the run."""
