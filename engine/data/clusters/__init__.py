"""Prompts in clusters of alike ones, from which a person makes task types."""
