"""Where clients run: threads of this process, Flower's Ray engine, SuperNodes over TLS."""
