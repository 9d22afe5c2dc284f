"""The paper's mathematics in plain PyTorch, written to be read. Everything else is held to it."""
