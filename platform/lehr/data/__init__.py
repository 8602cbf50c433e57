"""Data sources, and the feed that cuts a worker's batches from them."""
