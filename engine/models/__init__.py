"""Where models come from, what they are, and the one place that loads them."""
