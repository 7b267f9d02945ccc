"""The theme: Gradio's variables set to the colours of the studio, light and dark. Our own rules are in studio.css."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradio.themes.base import Base
from gradio.themes.utils import colors, sizes

if TYPE_CHECKING:
    from gradio.themes import ThemeClass

SYSTEM = (
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "Noto Sans",
    "PingFang SC",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "sans-serif",
)
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

# The names on the right are the custom properties of studio.css, which knows light and dark.
VARIABLES: dict[str, str] = {
    "body_background_fill": "paper",
    "body_text_color": "ink",
    "body_text_color_subdued": "soft",
    "background_fill_primary": "card",
    "background_fill_secondary": "paper",
    "border_color_accent": "accent",
    "border_color_accent_subdued": "line",
    "border_color_primary": "line",
    "color_accent_soft": "wash",
    "link_text_color": "accent",
    "link_text_color_active": "accent",
    "link_text_color_hover": "accent",
    "link_text_color_visited": "accent",
    "code_background_fill": "paper",
    "block_background_fill": "card",
    "block_border_color": "line",
    "block_info_text_color": "soft",
    "block_label_background_fill": "card",
    "block_label_border_color": "line",
    "block_label_text_color": "soft",
    "block_title_text_color": "ink",
    "panel_background_fill": "card",
    "panel_border_color": "line",
    "accordion_text_color": "ink",
    "table_text_color": "ink",
    "table_border_color": "line",
    "table_even_background_fill": "card",
    "table_odd_background_fill": "card",
    "table_row_focus": "wash",
    "checkbox_background_color": "card",
    "checkbox_background_color_focus": "card",
    "checkbox_background_color_hover": "card",
    "checkbox_background_color_selected": "accent",
    "checkbox_border_color": "edge",
    "checkbox_border_color_focus": "accent",
    "checkbox_border_color_hover": "accent",
    "checkbox_border_color_selected": "accent",
    "checkbox_label_background_fill": "card",
    "checkbox_label_background_fill_hover": "wash",
    "checkbox_label_background_fill_selected": "wash",
    "checkbox_label_border_color": "line",
    "checkbox_label_border_color_hover": "edge",
    "checkbox_label_border_color_selected": "accent",
    "checkbox_label_text_color": "ink",
    "checkbox_label_text_color_selected": "ink",
    "error_background_fill": "card",
    "error_border_color": "bad",
    "error_text_color": "bad",
    "error_icon_color": "bad",
    "input_background_fill": "field",
    "input_background_fill_focus": "field",
    "input_background_fill_hover": "field",
    "input_border_color": "edge",
    "input_border_color_focus": "accent",
    "input_border_color_hover": "soft",
    "input_placeholder_color": "soft",
    "loader_color": "accent",
    "slider_color": "accent",
    "stat_background_fill": "wash",
    "button_primary_background_fill": "accent",
    "button_primary_background_fill_hover": "deep",
    "button_primary_border_color": "accent",
    "button_primary_border_color_hover": "deep",
    "button_primary_text_color": "on-accent",
    "button_primary_text_color_hover": "on-accent",
    "button_secondary_background_fill": "card",
    "button_secondary_background_fill_hover": "wash",
    "button_secondary_border_color": "edge",
    "button_secondary_border_color_hover": "soft",
    "button_secondary_text_color": "ink",
    "button_secondary_text_color_hover": "ink",
    "button_cancel_background_fill": "card",
    "button_cancel_background_fill_hover": "wash",
    "button_cancel_border_color": "bad",
    "button_cancel_border_color_hover": "bad",
    "button_cancel_text_color": "bad",
    "button_cancel_text_color_hover": "bad",
}

MEASURES: dict[str, str] = {
    "body_text_size": "14px",
    "block_title_text_size": "13px",
    "block_title_text_weight": "600",
    "block_label_text_size": "12.5px",
    "block_info_text_size": "12.5px",
    "block_radius": "12px",
    "container_radius": "12px",
    "input_radius": "8px",
    "input_text_size": "14px",
    "button_large_radius": "8px",
    "button_medium_radius": "8px",
    "button_small_radius": "8px",
    "button_large_text_size": "14px",
    "button_medium_text_size": "14px",
    "button_small_text_size": "12.5px",
    "button_large_padding": "9px 16px",
    "button_medium_padding": "7px 14px",
    "button_small_padding": "4px 10px",
    "button_border_width": "1px",
    "button_border_width_dark": "1px",
    "layout_gap": "12px",
    "form_gap_width": "0px",
    "input_border_width": "1px",
    "input_shadow": "none",
    "input_shadow_focus": "none",
    "block_shadow": "none",
    "shadow_drop": "none",
    "shadow_drop_lg": "none",
    "shadow_inset": "none",
    "checkbox_shadow": "none",
    "checkbox_label_shadow": "none",
    "button_primary_shadow": "none",
    "button_secondary_shadow": "none",
}


def theme() -> ThemeClass:
    """Return the theme."""
    made = Base(
        primary_hue=colors.orange,
        neutral_hue=colors.stone,
        radius_size=sizes.radius_md,
        spacing_size=sizes.spacing_md,
        text_size=sizes.text_md,
        font=SYSTEM,
        font_mono=MONO,
    )
    both = {name: f"var(--at-{colour})" for name, colour in VARIABLES.items()}
    dark = {f"{name}_dark": value for name, value in both.items()}
    known = {name: value for name, value in {**both, **dark, **MEASURES}.items() if hasattr(made, name)}
    return made.set(color_accent="var(--at-accent)", **known)
