"""The pages by name, in the order of the rail. A page is a module with `build(ui)`; its address is `/name`, home is `/`."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

NAMES = ("home", "data", "train", "runs", "chat", "models", "export", "settings")

PAGES: dict[str, ModuleType] = {
    name: importlib.import_module(f"app.pages.{name}") for name in NAMES if importlib.util.find_spec(f"app.pages.{name}")
}
