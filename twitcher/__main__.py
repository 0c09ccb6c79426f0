"""`twitcher`, and `python -m twitcher`: the daemon, started as fast as can be."""

import gc

from twitcher.lazy_imports import lazy_imports

gc.disable()  # what is imported stays: to look for garbage in it, now or later, is time lost
with lazy_imports():
    from twitcher.cli import main
gc.freeze()
gc.enable()

if __name__ == '__main__':
    main()
