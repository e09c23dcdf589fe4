"""What flows through the library: frozen dataclasses, no behaviour."""
