"""From the files on disk to checked WatchSpecs."""
