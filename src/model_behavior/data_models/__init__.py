"""Data that flows through the library: frozen dataclasses without behaviour."""
