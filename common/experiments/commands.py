"""`hardfirst rank`, `watch`, `select` and `backtest`: parse, call, format. Heavy imports wait for the call."""

from __future__ import annotations

import click

EXPERIMENTS: tuple[click.Command, ...] = ()
"""Every command of this file; ``common.cli`` adds them."""
