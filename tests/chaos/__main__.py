"""Run a daemon among faults and check its guarantees: see command.py."""

from tests.chaos.command import main

if __name__ == '__main__':  # and not in the process of one of many seeds
    main()
