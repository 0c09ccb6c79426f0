"""Twitcher runs scripts when a znode in ZooKeeper changes."""

__version__ = '2.1.0'
