"""Decides when an action runs. Everything is handed in: it imports no process and no ZooKeeper."""
