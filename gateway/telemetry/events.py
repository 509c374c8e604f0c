"""The names of log events, past tense; a name here is a contract with whoever searches logs.

Rules:      1. one name, one meaning  2. values are fields, never part of the name
"""

from typing import Final

REQUEST_ANSWERED: Final = "request_answered"
"""One HTTP exchange ended: request, method, path, status, identity, bytes_in, bytes_out, elapsed_ms, code if refused."""
REQUEST_FAILED: Final = "request_failed"
"""A defect of ours during an exchange: request and the traceback."""
REQUEST_MALFORMED: Final = "request_malformed"
"""What came over a connection was no HTTP request."""
CONNECTION_CUT: Final = "connection_cut"
"""A connection was closed by us: reason."""
SERVER_LISTENED: Final = "server_listened"
"""The server accepts connections: addresses."""
SERVER_DRAINED: Final = "server_drained"
"""The server stopped: unfinished requests that were cut, elapsed_ms."""
CERTIFICATE_LOADED: Final = "certificate_loaded"
"""A renewed server certificate is in use for new connections."""
CERTIFICATE_REFUSED: Final = "certificate_refused"
"""A changed server certificate could not be loaded; the old one stays: error."""
ANCHOR_ADDED: Final = "trust_anchor_added"
"""Another site's issuing CA is known to TLS from now on."""
ANCHOR_REFUSED: Final = "trust_anchor_refused"
"""A CA in the trust bundle does not load: error."""
JOB_DELAYED: Final = "job_delayed"
"""Background work is to be tried again: kind, key, attempts, delay_s, error."""
JOB_FAILED: Final = "job_failed"
"""A defect of ours in background work: kind, key, attempts and the traceback."""
JOB_RENEWAL_FAILED: Final = "job_renewal_failed"
"""A lease could not be prolonged this time: kind, key, error."""
