"""Whether tests try everything they know, which takes an hour, or the choice that `make test` runs: `make thorough`."""

from __future__ import annotations

import os

THOROUGH = os.environ.get("HARDFIRST_TEST_THOROUGH") == "1"
