"""What our child processes inherit of the environment: what they work with, and no secrets but those of the store."""

from __future__ import annotations

from collections.abc import Mapping

NAMES = frozenset(
    {
        "PATH",
        "HOME",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "HF_ENDPOINT",
        "ALL_PROXY",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
        "all_proxy",
        "https_proxy",
        "http_proxy",
        "no_proxy",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
    }
)
FAMILIES = ("ATELIER_", "LC_", "CUDA_", "OMP_", "GOMP_")
SECRET = frozenset({"ATELIER_PASSWORD"})
"""For the web server alone."""


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what of an environment a child gets."""
    return {
        name: value
        for name, value in environment.items()
        if (name in NAMES or name.startswith(FAMILIES)) and name not in SECRET
    }
