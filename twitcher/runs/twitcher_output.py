"""The program that the daemon starts to log what actions print: a file, so that ps(1) shows a name.

It is run by `python3 -I`, which searches neither this directory nor PYTHONPATH: what is imported is the daemon's own.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from twitcher.runs.output_process import main  # noqa: E402  # it can be found from here on

if __name__ == '__main__':
    main(*sys.argv[1:])
