"""Scoring models that reports compare with and that no scorer is built on."""
