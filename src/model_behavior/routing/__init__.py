"""Routing: chooses a model for each prompt by expected quality and cost."""
