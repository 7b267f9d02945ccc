"""The history of the schema, oldest first: forward only, each step in one transaction."""
