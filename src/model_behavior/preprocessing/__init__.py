"""Preprocessing: forms triplets from votes, and encodes texts through a cache."""
