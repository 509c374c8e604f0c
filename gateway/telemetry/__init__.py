"""What operators see of a running gateway: log lines. The audit log is another thing; it goes through the `Log` port."""
