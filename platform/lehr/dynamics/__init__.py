"""Chains that move images downhill in energy, their noise, and where they are kept between steps."""
