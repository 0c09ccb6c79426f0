"""One run: its process, its output, its end."""
