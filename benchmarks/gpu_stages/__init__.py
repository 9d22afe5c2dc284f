"""The stages of `benchmarks/gpu_session.py`. Each runs in its own process, `python -m gpu_stages.stage NAME`."""
