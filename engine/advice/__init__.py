"""From facts to defaults and diagnoses, each with its reason and its source."""
