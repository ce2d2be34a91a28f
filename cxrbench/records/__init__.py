"""The one place that writes, reads, chooses, names and trusts records."""
