"""An organisation's own state: its agents, its tasks, its configuration."""
