"""The browser and the command line: specs go in, rows come out. Nothing here trains or loads a model."""

from __future__ import annotations

import os

# Before Gradio is imported: it reads these when its modules load.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["GRADIO_RUN_HISTORY"] = "False"
os.environ["GRADIO_MCP_SERVER"] = "False"
