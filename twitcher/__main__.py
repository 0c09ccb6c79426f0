"""`python -m twitcher`: the daemon."""

from twitcher.cli import main

main()
