"""How results look: text tables, LaTeX, figures and one HTML file."""
