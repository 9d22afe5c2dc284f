"""The embedded set: synthetic micro-expressions of two public-domain faces, with exact flow and landmarks."""
