"""The machines on trio: clock, sockets, disk, processes, worker threads."""
