"""The threaded pipelines that seal and open artifacts, and the peer client; both ends run these over the pure core.

Rules:      1. the core never imports this package  2. work items for threads are about 1 MiB, never a single chunk
            3. every queue is bounded, so a slow link slows the reader
Spec:       docs/life-of-a-chunk.md
"""
