"""What a job is and how it runs. Knows no web framework."""
