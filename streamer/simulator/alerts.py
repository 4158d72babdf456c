"""Placeholder."""


class AlertGenerator:
    """Placeholder."""
