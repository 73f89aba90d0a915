"""`hardfirst rank`, `watch`, `select` and `backtest`: parse, call, format. Heavy imports wait for the call."""

from __future__ import annotations

import click

from common.experiments.backtest.command import backtest
from common.experiments.folder_commands import rank, watch
from common.experiments.select_command import select

EXPERIMENTS: tuple[click.Command, ...] = (rank, watch, select, backtest)
"""Every command of this file; ``common.cli`` adds them."""
