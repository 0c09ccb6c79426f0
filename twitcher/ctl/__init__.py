"""twitcherctl."""
