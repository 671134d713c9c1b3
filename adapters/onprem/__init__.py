"""Agents on this machine: MCP servers on stdio, supervised and fenced in."""
