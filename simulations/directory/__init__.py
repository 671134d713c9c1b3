"""A mesh of directories alone: far apart, many, some of them gone, cut off or lying."""
