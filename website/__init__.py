"""The documentation site: generated pages, the builder, and what runs the pages that show commands."""
