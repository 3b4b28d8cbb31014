"""Published benchmarks: their rows, prompts and rules, from the hub or from local files."""
