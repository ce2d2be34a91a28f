"""What records and their predictions allow to be said; loads no torch."""
