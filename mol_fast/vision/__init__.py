"""Frames and faces: read video, find faces and landmarks, align faces, draw flow in colour."""
