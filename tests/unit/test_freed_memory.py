"""Whose say it is how much freed memory glibc keeps."""

from __future__ import annotations

import pytest

from common.yolo import offline


@pytest.mark.parametrize(
    ("environment", "owners"),
    [
        ({}, False),
        ({"PATH": "/bin", "MY_MALLOC_": "1"}, False),
        ({"MALLOC_ARENA_MAX": "2"}, True),
        ({"MALLOC_TRIM_THRESHOLD_": "0"}, True),
        ({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1"}, True),
        ({"GLIBC_TUNABLES": "glibc.rtld.nns=2:glibc.malloc.check=1"}, True),
        ({"GLIBC_TUNABLES": "glibc.rtld.nns=2"}, False),
    ],
)
def test_what_the_owner_has_set_stays(environment: dict[str, str], owners: bool) -> None:
    assert offline.owner_sets_memory(environment) is owners
