"""What may be concluded from records: returns data, formats nothing."""
