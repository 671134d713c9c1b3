"""The Store port on LevelDB and in memory, the write-ahead log, and the vector index."""
