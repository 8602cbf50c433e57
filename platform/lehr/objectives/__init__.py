"""What one training step minimises."""
