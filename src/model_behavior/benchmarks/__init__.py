"""Reports on votes: baselines, variants, speed, load. What `benchmark` runs and nobody else needs."""
