"""The transparency log: entries of the catalog made into signed, published tiles."""
