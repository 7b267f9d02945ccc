"""The export forms by name."""

from __future__ import annotations

from engine.exporters.adapter import AdapterExporter
from engine.exporters.merged import MergedExporter
from engine.exporters.protocol import Exporter

EXPORTERS: dict[str, Exporter] = {"merged": MergedExporter(), "adapter": AdapterExporter()}
