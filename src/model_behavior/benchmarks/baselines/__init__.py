"""Baselines: scoring models for comparison in the reports, not used by the scorer."""
