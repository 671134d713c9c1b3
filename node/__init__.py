"""The node: what it decides (kernel), how it runs (runtime), and its faces (api, cli)."""
