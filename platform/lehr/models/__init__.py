"""The networks. A model knows nothing of ranks, jobs or files."""
