"""The gateway: one per site, in one jurisdiction; it receives, decides, stores, forwards, delivers and logs.

Layers point one way: edge (`http`, `cli`) -> use cases -> `ports` <- adapters (`storage`, `catalog`, `translog`); only
`assembly` names concrete classes.
"""
