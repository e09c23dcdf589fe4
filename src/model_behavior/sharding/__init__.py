"""Encodes, predicts and enrols large inputs shard by shard, on one machine or many; interrupted runs are resumed."""
