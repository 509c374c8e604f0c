"""Passages: what crosses over relays, at the origin, at each relay and at the destination."""
