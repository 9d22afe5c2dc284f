"""The stages of `benchmarks/gpu_session.py`; each runs in a process of its own, `python -m gpu_stages.stage NAME`."""
