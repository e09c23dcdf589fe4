"""How fast every stage is, beside other ways to do the same and beside what the machine could do."""
