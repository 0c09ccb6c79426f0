"""Twitcher's speed and size, measured against other ways to do the same: `./dev
bench`."""
