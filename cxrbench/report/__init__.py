"""Tables from records; loads no torch."""
