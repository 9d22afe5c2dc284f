"""The network: F5C block, heads, losses, and weights on disk."""
