"""Generated families: every problem is made from a seed, offline."""
