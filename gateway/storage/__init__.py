"""Adapters that keep segments: the local disk, and memory for simulations."""
