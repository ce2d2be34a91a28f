"""A leaderboard as a folder of static pages, for a lab to publish; loads no torch."""
