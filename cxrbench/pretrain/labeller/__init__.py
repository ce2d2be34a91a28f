"""A rule labeller after CheXpert: report text to findings that are present, absent, uncertain or not mentioned."""
