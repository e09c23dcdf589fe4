"""Encoding, predicting and enrolling shard by shard: on this machine or on many, resumed where a run was cut off."""
