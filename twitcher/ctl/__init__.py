"""The commands of twitcherctl."""
