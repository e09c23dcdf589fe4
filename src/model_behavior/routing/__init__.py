"""Which model answers which prompt, when models cost differently."""
