"""The network: blocks, heads, losses, and its weights on disk."""
