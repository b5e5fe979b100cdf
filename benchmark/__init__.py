"""Many runs and what comes of them; each run is one call of `train.py`."""
