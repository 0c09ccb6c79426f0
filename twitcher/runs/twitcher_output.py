"""The program of the output process: a file of its own, so that ps(1) shows its name.

`python3 -I` runs it, which searches neither this directory nor PYTHONPATH; the path
below makes sure that it imports the same twitcher as the daemon.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from twitcher.runs.output_process import main  # noqa: E402  # needs the path above

if __name__ == '__main__':
    main(*sys.argv[1:])
