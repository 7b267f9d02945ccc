"""What `child.py` takes from `engine.files`."""

from engine.files import write_json as write_json
