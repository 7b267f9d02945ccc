"""The icons, drawn for this project: 20 × 20, one stroke, the colour of the text."""

from __future__ import annotations

from app.render import Html

PATHS: dict[str, str] = {
    "home": "M3 9.5 10 4l7 5.5M5 8.5V16h10V8.5M8.5 16v-4h3v4",
    "data": (
        "M4 5c0-1.1 2.7-2 6-2s6 .9 6 2-2.7 2-6 2-6-.9-6-2Zm0 0v10c0 1.1 2.7 2 6 2s6-.9 6-2V5"
        "M4 10c0 1.1 2.7 2 6 2s6-.9 6-2"
    ),
    "make": "M3.5 16.5 12 8l1.5 1.5-8.5 8.5ZM14.5 2.5v4M12.5 4.5h4M16 11v3M14.5 12.5h3M6.5 4v3M5 5.5h3",
    "train": ("M3 6h7M14 6h3M3 14h3M10 14h7M10 6a2 2 0 1 0 4 0 2 2 0 1 0-4 0M6 14a2 2 0 1 0 4 0 2 2 0 1 0-4 0"),
    "chains": "M2.5 7.5h4v5h-4ZM8 7.5h4v5H8ZM13.5 7.5h4v5h-4ZM6.5 10H8M12 10h1.5",
    "runs": "M3 3.5v13h14M5.5 6c2 6.5 4.5 7.5 6 7.5s3-.5 4.5-2",
    "queue": "M3.5 5h1M3.5 10h1M3.5 15h1M7.5 5h9M7.5 10h9M7.5 15h6",
    "disk": "M3 12h14M3 12l2-7.5h10l2 7.5v4H3ZM13.5 14.2h.6",
    "chat": "M4 4h12v9H9l-3.5 3v-3H4Z",
    "models": "M10 3l6.5 3.5v7L10 17l-6.5-3.5v-7ZM3.5 6.5 10 10l6.5-3.5M10 10v7",
    "export": "M10 12V3M6.5 6.5 10 3l3.5 3.5M4 11v5.5h12V11",
    "settings": (
        "M10 7a3 3 0 1 0 0 6 3 3 0 1 0 0-6ZM10 2.5V5M10 15v2.5M2.5 10H5M15 10h2.5"
        "M4.7 4.7l1.8 1.8M13.5 13.5l1.8 1.8M4.7 15.3l1.8-1.8"
        "M13.5 6.5l1.8-1.8"
    ),
    "language": ("M10 3a7 7 0 1 0 0 14 7 7 0 1 0 0-14ZM3 10h14M10 3c2 2 3 4.5 3 7s-1 5-3 7c-2-2-3-4.5-3-7s1-5 3-7"),
    "theme": "M10 3a7 7 0 1 0 0 14ZM10 3a7 7 0 0 1 0 14",
}


def icon(name: str) -> Html:
    """Return an icon; it is decoration, its neighbour carries the words."""
    return Html(
        '<svg class="at-icon" viewBox="0 0 20 20" width="20" height="20" fill="none" stroke="currentColor"'
        ' stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">'
        f'<path d="{PATHS[name]}"></path></svg>'
    )


MARK = Html(
    '<svg class="at-mark" viewBox="0 0 28 28" width="28" height="28" aria-hidden="true">'
    '<rect class="at-mark-back" width="28" height="28" rx="8"></rect>'
    '<path class="at-mark-line" d="M6.5 21 13 7h2l6.5 14M9.5 16.5c2.5-2 6.5-2 9 0" fill="none" stroke-width="2"'
    ' stroke-linecap="round" stroke-linejoin="round"></path></svg>'
)
