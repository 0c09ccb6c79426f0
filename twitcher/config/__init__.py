"""From the files on disk to checked WatchSpecs. Needs neither ZooKeeper nor a process."""
