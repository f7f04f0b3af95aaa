"""SEED: chosen by the environment or by chance, and printed at the head of each run (conftest.py)."""

import os
import random

SEED = int(os.environ.get("SEED") or random.SystemRandom().getrandbits(32))
