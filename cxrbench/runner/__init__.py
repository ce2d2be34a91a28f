"""The only place where models, data, prompts and evaluators meet: from a request to records."""
