"""Rates and memory of every stage, beside the least that it must do."""
