"""The agent of ``mesh bench soak``: a folder as anybody's, with an agent file and a server."""
