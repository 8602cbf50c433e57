"""How one training step is spread over devices and processes."""
