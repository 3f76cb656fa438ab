"""`runnerctl audit`: verifies and exports the audit trail."""
