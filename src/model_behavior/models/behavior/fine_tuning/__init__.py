"""Fine-tuning of a transformer on votes, before the head is trained on its frozen output."""
