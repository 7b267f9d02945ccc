"""The processes: the worker and the children that do the work."""
