"""CVAT's lists: pages, JSON Logic filters, plain query filters and sorting."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from flask import Response, request

from tests.cvat_server.replies import RefusalError, invalid, reply
from tests.cvat_server.world import Json

T = TypeVar("T")
Getter = Callable[[Any], Any]
Test = Callable[[Any], bool]


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What can be asked of a list: `fields` by filter and sort, `queries` also as plain parameters."""

    fields: Mapping[str, Callable[[T], Any]]
    queries: Sequence[str] = ()
    newest_first: bool = True


def page(things: Iterable[T], kind: Kind[T], body: Callable[[T], Json], sort_key: str = "id") -> Response:
    """The answer to a list request: filtered, sorted, one page of it.

    Args:
        things: what the caller may see.
        kind: the fields to filter and sort by; other names in the query are silently ignored.
        body: an element's JSON.
        sort_key: the field of the default order; descending for most kinds.

    Raises:
        RefusalError: 400 for a filter that cannot be read, 404 for a page out of range.
    """
    tests = _tests(kind)
    found = [one for one in things if all(test(one) for test in tests)]
    found = _sorted(found, kind, sort_key)
    size, number = _size(len(found)), _number()
    if number < 1 or (number > 1 and (number - 1) * size >= len(found)):
        raise RefusalError(404, {"detail": "Invalid page."})
    last = number * size >= len(found)
    return reply(
        {
            "count": len(found),
            "next": None if last else _link(number + 1),
            "previous": None if number == 1 else _link(number - 1),
            "results": [body(one) for one in found[(number - 1) * size : number * size]],
        }
    )


def _size(count: int) -> int:
    asked = request.args.get("page_size", "")
    if asked == "all":
        return max(count, 1)
    return int(asked) if asked.isdigit() and int(asked) > 0 else 10


def _number() -> int:
    asked = request.args.get("page", "1")
    return int(asked) if asked.isdigit() else 0


def _link(number: int) -> str:
    query = [(name, value) for name, value in request.args.items(multi=True) if name != "page"]
    if number > 1:
        query.append(("page", str(number)))
    return f"{request.base_url}?{urlencode(sorted(query))}" if query else request.base_url


def _tests(kind: Kind[Any]) -> list[Test]:
    tests = [_equal(kind.fields[name], request.args[name]) for name in kind.queries if name in request.args]
    if rule := request.args.get("filter"):
        try:
            tests.append(compile_rule(json.loads(rule), kind.fields))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise invalid([f"filter: {error} is not supported"]) from error
    return tests


def _equal(get: Getter, wanted: str) -> Test:
    def test(one: Any) -> bool:
        value = get(one)
        return (str(value).lower() == wanted.lower()) if isinstance(value, bool) else str(value) == wanted

    return test


def _sorted(found: list[T], kind: Kind[T], sort_key: str) -> list[T]:
    asked = [name for name in request.args.get("sort", "").split(",") if name.lstrip("-") in kind.fields]
    asked = asked or [f"-{sort_key}" if kind.newest_first else sort_key]
    for name in reversed(asked):
        get = kind.fields[name.lstrip("-")]
        found = sorted(found, key=lambda one: _order(get(one)), reverse=name.startswith("-"))
    return found


def _order(value: Any) -> tuple[bool, Any]:
    return (True, 0) if value is None else (False, value)


def compile_rule(rule: Any, fields: Mapping[str, Getter]) -> Test:
    """JSON Logic to a test of one element: and, or, !, ==, !=, <, <=, >, >=, in, var.

    Raises:
        ValueError: an operator that CVAT does not know.
        KeyError: a field that cannot be filtered.
    """
    ((operator, args),) = rule.items()
    if operator == "var":
        get = fields[args]
        return lambda one: get(one) is not None
    if operator == "!":
        inner = compile_rule(args[0] if isinstance(args, list) else args, fields)
        return lambda one: not inner(one)
    if operator in ("and", "or"):
        tests = [compile_rule(one, fields) for one in args]
        join = all if operator == "and" else any
        return lambda one: join(test(one) for test in tests)
    if operator == "in":
        return _in(args, fields)
    if operator in _COMPARE:
        return _comparison(operator, args, fields)
    raise ValueError(operator)


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


def _comparison(operator: str, args: list[Any], fields: Mapping[str, Getter]) -> Test:
    compare = _COMPARE[operator]
    if len(args) == 3:  # between: low <= field <= high
        get = fields[args[1]["var"]]
        return lambda one: _ordered(compare, args[0], get(one)) and _ordered(compare, get(one), args[2])
    get, wanted = fields[args[0]["var"]], args[1]
    return lambda one: _ordered(compare, get(one), wanted)


def _ordered(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    """Compares as the database would: text becomes a time or a number where the other side is one."""
    if left is None or right is None:
        return left is right and compare(0, 0)
    return compare(_like(left, right), _like(right, left))


def _like(value: Any, other: Any) -> Any:
    if isinstance(value, str) and isinstance(other, datetime):
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    if isinstance(value, str) and isinstance(other, int) and not isinstance(other, bool):
        return int(value)
    return value


def _in(args: list[Any], fields: Mapping[str, Getter]) -> Test:
    first, second = args
    if isinstance(first, dict):
        get = fields[first["var"]]
        return lambda one: any(_ordered(_COMPARE["=="], get(one), value) for value in second)
    get = fields[second["var"]]
    return lambda one: str(first).lower() in str(get(one) or "").lower()
