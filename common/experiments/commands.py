"""`hardfirst rank`, `watch`, `select` and `backtest`: parse, call, format. Heavy imports wait for the call."""

from __future__ import annotations

import click

from common.experiments.backtest.command import backtest
from common.experiments.rank_command import rank
from common.experiments.select_command import select
from common.experiments.watch_command import watch

EXPERIMENTS: tuple[click.Command, ...] = (rank, watch, select, backtest)
"""Every command of this file; ``common.cli`` adds them."""
