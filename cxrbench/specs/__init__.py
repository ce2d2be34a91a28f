"""What a fact file says: cards, tasks, prompts, variants, recipes, the paper's tables, and the catalog of them."""
