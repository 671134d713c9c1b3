"""One call to one agent, with its intent recorded before and its outcome after."""
