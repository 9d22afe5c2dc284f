"""Pictures and faces: reading frames, finding faces, landmarks and their order, alignment, flow in colour."""
