"""What could make a number look too good: shared patients and images, contamination, confounding, unequal prompts."""
