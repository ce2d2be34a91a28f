"""One HTML file that shows everything a results folder holds; loads no torch."""
