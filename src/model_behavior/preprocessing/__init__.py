"""Votes to triplets, texts to cached vectors."""
