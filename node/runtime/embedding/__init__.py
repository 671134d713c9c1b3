"""The sentence model: all-MiniLM-L6-v2 in NumPy, without torch."""
