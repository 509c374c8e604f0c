"""What two ends of a crossing must agree about: formats, protocol, policy and proof.

A line belongs here only if two ends would break by disagreeing about it, or both ends run it. The core is pure: bytes and values
in, bytes and values out. Clock, files, sockets, tasks and logging are passed in by the edges (`agent`, `gateway`); `carnet.flow`
alone runs threads and the peer client over ports.

Rules:      1. nothing here imports `agent` or `gateway`  2. the core never imports `carnet.flow`
Spec:       docs/formats.md, docs/protocol.md
"""
