"""The two hot loops: the moments of a block, and centre-and-scale."""
