"""Environments: copies of one side by side, what an agent has lived through in them, and episodes to judge it by."""
