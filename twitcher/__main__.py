"""`twitcher` and `python -m twitcher`: starts the daemon, as fast as possible."""

import gc

from twitcher.lazy_imports import lazy_imports

gc.disable()  # imported modules stay: collecting garbage among them costs time for nothing
with lazy_imports():
    from twitcher.cli import main
gc.freeze()
gc.enable()

if __name__ == '__main__':
    main()
