"""The HTTP edge: TLS in, use cases called, problem documents out; it decides nothing."""
