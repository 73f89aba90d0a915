"""`hardfirst select`: an array of features in, an array of row numbers out, errors in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from common.cli import main
from common.strategies import REGISTRY

N = 300


@pytest.fixture
def x(tmp_path: Path) -> np.ndarray:
    features = np.random.default_rng(0).standard_normal((N, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", features)
    np.save(tmp_path / "u.npy", np.random.default_rng(1).random(N))
    np.save(tmp_path / "idx.npy", np.array([3, 17, 250]))
    return features


def _select(folder: Path, *words: object, strategy: str = "core_set", budget: int = 20, x: str = "x.npy") -> Result:
    fixed = ["--embeddings", folder / x, "--budget", budget, "--strategy", strategy, "--out", folder / "order.npy"]
    return CliRunner().invoke(main, ["select", *map(str, fixed), *map(str, words)])


def _order(folder: Path, *words: object, **rest) -> np.ndarray:
    result = _select(folder, *words, **rest)
    assert result.exit_code == 0, result.output
    return np.load(folder / "order.npy", allow_pickle=False)


def _plain(x: np.ndarray, covered: list[int], count: int) -> list[int]:
    x = x.astype(np.float64)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    near = np.min([((x - x[i]) ** 2).sum(axis=1) for i in covered], axis=0)
    order = []
    for _ in range(count):
        near[covered + order] = -1
        order.append(int(np.argmax(near)))
        near = np.minimum(near, ((x - x[order[-1]]) ** 2).sum(axis=1))
    return order


def test_core_set_goes_farthest_from_the_labelled_rows_and_never_returns_them(tmp_path, x):
    order = _order(tmp_path, "--labelled", tmp_path / "idx.npy")
    assert order.dtype == np.int64
    assert order.tolist() == _plain(x, [3, 17, 250], 20)


def test_without_labels_the_seed_draws_the_first_row_and_distance_the_others(tmp_path, x):
    firsts = set()
    for seed in range(5):
        order = _order(tmp_path, "--seed", seed)
        firsts.add(int(order[0]))
        assert order[1:].tolist() == _plain(x, [int(order[0])], 19)
        np.testing.assert_array_equal(order, _order(tmp_path, "--seed", seed))
    assert len(firsts) > 1


def test_ties_go_to_the_lowest_row_even_among_copies(tmp_path):
    distinct = np.random.default_rng(5).standard_normal((40, 16)).astype(np.float32)
    np.save(tmp_path / "x.npy", np.tile(distinct, (50, 1)))
    np.save(tmp_path / "idx.npy", np.array([0]))
    order = _order(tmp_path, "--labelled", tmp_path / "idx.npy", budget=1999)
    assert sorted(order[:39]) == list(range(1, 40))
    np.testing.assert_array_equal(order[39:], np.arange(40, 2000))


def test_exactly_equal_distances_go_to_the_lowest_row(tmp_path):
    """The corners of a cube: after its opposite, every corner is equally far from the nearest one."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
    np.save(tmp_path / "x.npy", corners / np.linalg.norm(corners, axis=1, keepdims=True))
    np.save(tmp_path / "idx.npy", np.array([0]))
    assert _order(tmp_path, "--labelled", tmp_path / "idx.npy", budget=7).tolist() == [7, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("length", [1e-44, 1e-20, 1e19, 1e38])
def test_rows_of_any_length_are_ordered_by_direction(tmp_path, x, length):
    lengths = np.where(np.arange(N) % 3 == 0, 2.0 ** np.round(np.log2(length)), 1)[:, None]
    np.save(tmp_path / "y.npy", np.clip(x * lengths, -3e38, 3e38).astype(np.float64))
    order = _order(tmp_path, "--labelled", tmp_path / "idx.npy", x="y.npy")
    assert order.tolist() == _plain(np.load(tmp_path / "y.npy"), [3, 17, 250], 20)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
def test_every_kind_of_number_is_read_from_the_disk(tmp_path, x, kind):
    np.save(tmp_path / "y.npy", x.astype(kind))
    order = _order(tmp_path, "--labelled", tmp_path / "idx.npy", x="y.npy")
    assert order.tolist() == _plain(x.astype(kind), [3, 17, 250], 20)


def test_a_greedy_order_goes_as_far_as_the_budget(tmp_path):
    """Beyond 10,000 places, the limit that holds in a service, twins would follow each other by distance."""
    rng = np.random.default_rng(0)
    spread = rng.standard_normal((10_000, 32)).astype(np.float32)
    beside = spread[:20] + 0.1 * rng.standard_normal((20, 32)).astype(np.float32)
    np.save(tmp_path / "x.npy", np.concatenate([spread, beside, beside * 1.001]))
    whole = _order(tmp_path, budget=10_040)
    assert len(set((whole[10_000:10_020] % 20).tolist())) == 20
    cut = _order(tmp_path, "--option", "greedy_limit=10000", budget=10_040)
    assert len(set((cut[10_000:10_020] % 20).tolist())) < 20
    np.testing.assert_array_equal(_order(tmp_path, budget=50), whole[:50])


@pytest.mark.parametrize("strategy", sorted(REGISTRY))
def test_every_strategy_returns_so_many_distinct_unlabelled_rows_or_all_there_are(tmp_path, x, strategy):
    words = ("--labelled", tmp_path / "idx.npy", "--utility", tmp_path / "u.npy")
    order = _order(tmp_path, *words, strategy=strategy, budget=40)
    assert len(set(order.tolist())) == 40
    assert not {3, 17, 250} & set(order.tolist())
    assert sorted(_order(tmp_path, *words, strategy=strategy, budget=9999)) == sorted({*range(N)} - {3, 17, 250})
    np.testing.assert_array_equal(_order(tmp_path, *words, strategy=strategy, budget=7), order[:7])


def test_top_utility_follows_the_utilities_and_hybrid_needs_none(tmp_path, x):
    order = _order(tmp_path, "--utility", tmp_path / "u.npy", strategy="top_utility")
    assert order.tolist() == np.argsort(-np.load(tmp_path / "u.npy"), kind="stable")[:20].tolist()
    assert len(_order(tmp_path, strategy="hybrid")) == 20


def test_a_mask_and_an_empty_list_are_labels_too(tmp_path, x):
    np.save(tmp_path / "mask.npy", np.isin(np.arange(N), [3, 17, 250]))
    np.save(tmp_path / "none.npy", np.zeros(0))
    masked = _order(tmp_path, "--labelled", tmp_path / "mask.npy")
    np.testing.assert_array_equal(masked, _order(tmp_path, "--labelled", tmp_path / "idx.npy"))
    np.testing.assert_array_equal(_order(tmp_path, "--labelled", tmp_path / "none.npy"), _order(tmp_path))


@pytest.mark.parametrize("shape", [(0, 8), (5, 0), (1, 8)])
def test_hardly_anything_to_order_is_ordered(tmp_path, shape):
    np.save(tmp_path / "x.npy", np.ones(shape, np.float32))
    assert _order(tmp_path).tolist() == list(range(shape[0])) or shape == (5, 0)
    assert sorted(_order(tmp_path)) == list(range(shape[0]))


def test_unknown_rows_are_one_place_and_no_error(tmp_path, x):
    x[[5, 6]] = np.nan
    np.save(tmp_path / "x.npy", x)
    order = _order(tmp_path, "--labelled", tmp_path / "idx.npy", budget=N).tolist()
    assert sorted(order) == sorted({*range(N)} - {3, 17, 250})
    assert order[-1] == 6


WRONG_FILES = {
    "text": (b"hello", "not a whole .npy file"),
    "empty": (b"", "not a whole .npy file"),
    "pickle": (b"\x80\x04K\x01.", "not a whole .npy file"),
    "damaged head": (b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4',\n", "not a whole .npy file"),
    "head that is no code": (b"\x93NUMPY\x01\x00\x10\x00{{{{ ((( 'a' \n ..", "not a whole .npy file"),
    "zip": (b"PK\x03\x04aaaa", "not a whole .npy file"),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_file_that_is_no_array_is_one_sentence(tmp_path, kind):
    body, said = WRONG_FILES[kind]
    (tmp_path / "x.npy").write_bytes(body)
    result = _select(tmp_path)
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "order.npy").exists()


def test_an_array_that_was_cut_off_and_a_npz_are_refused(tmp_path, x):
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:-50])
    assert "not a whole .npy file" in _select(tmp_path).output
    np.savez(tmp_path / "x.npz", x=x)
    assert "not a whole .npy file" in _select(tmp_path, x="x.npz").output


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros(5), r"has shape (5,): (n, D) is wanted"),
        (np.zeros((5, 2, 2)), r"has shape (5, 2, 2): (n, D) is wanted"),
        (np.zeros((5, 2), int), "holds int64: float16, float32 or float64 is wanted"),
        (np.array([[None, 1.0]], object), "not a whole .npy file of numbers"),
    ],
)
def test_features_of_another_shape_or_kind_are_refused(tmp_path, array, said):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    result = _select(tmp_path)
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize(
    ("option", "array", "said"),
    [
        ("--labelled", np.array([3, 300]), "names row 300: 0 to 299 are the rows"),
        ("--labelled", np.array([-1]), "names row -1"),
        ("--labelled", np.array([0.5]), "whole row numbers"),
        ("--labelled", np.array([1, 0, 0, 1, 0, 0]), "row 0 is named 4 times in --labelled"),
        ("--labelled", np.array([7, 7]), "give each labelled row once, or a mask of type bool"),
        ("--labelled", np.array([1.0, 0.0]), "whole row numbers"),
        ("--labelled", np.zeros((2, 2), int), "whole row numbers"),
        ("--labelled", np.zeros(7, bool), "whole row numbers"),
        ("--utility", np.zeros(7), "300 numbers are wanted"),
        ("--utility", np.array(["a"] * N), "300 numbers are wanted"),
        (
            "--utility",
            np.where(np.arange(N) == 9, np.nan, 0),
            "1 values that are not finite, the first is nan at row 9",
        ),
    ],
)
def test_labels_and_utilities_that_do_not_fit_are_refused(tmp_path, x, option, array, said):
    np.save(tmp_path / "other.npy", array)
    result = _select(tmp_path, option, tmp_path / "other.npy")
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "-1"], "--budget is -1: 1 or more is allowed"),
        (["--budget", "0"], "--budget is 0: 1 or more is allowed"),
        (["--seed", "-1"], "--seed is -1"),
        (["--strategy", "hybird"], "no strategy 'hybird'; there are ['additive', 'core_set'"),
        (["--strategy", "top_utility"], "give --utility"),
        (["--option", "colour=1"], "strategy 'core_set' has no option 'colour'; there are ['greedy_limit']"),
        (["--option", "greedy_limit=many"], "is 'many', but it takes a whole number"),
        (["--option", "greedy_limit=-1"], "greedy_limit is -1"),
        (["--utility", "nowhere.npy"], "there is no such file"),
        (["--embeddings", "nowhere.npy"], "there is no such file"),
        (["--out", "nowhere/order.npy"], "there is no folder nowhere"),
    ],
)
def test_a_wrong_word_is_one_sentence(tmp_path, x, words, said):
    result = _select(tmp_path, *words)
    assert result.exit_code == 2
    assert said in result.output
    assert not (tmp_path / "order.npy").exists()


@pytest.mark.parametrize(
    ("strategy", "name"),
    [("hybrid", "acquisition"), ("additive", "acquisition"), ("top_utility", "aggregation"), ("stream", "aggregation")],
)
def test_a_wrong_name_is_wrong_even_where_utilities_make_it_useless(tmp_path, x, strategy, name):
    words = ["--utility", tmp_path / "u.npy", "--option", f"{name}=bogus"]
    result = _select(tmp_path, *words, strategy=strategy)
    assert result.exit_code == 2
    assert f"no {name} 'bogus'; there are [" in result.output
    assert not (tmp_path / "order.npy").exists()


def test_core_set_starts_without_torch_ultralytics_and_sklearn(tmp_path, x):
    heavy = "{'torch', 'ultralytics', 'sklearn', 'scipy', 'sqlalchemy', 'matplotlib'}"
    code = (
        "import sys; from common.cli import main; main(sys.argv[1:], standalone_mode=False); "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    words = ["select", "--embeddings", "x.npy", "--budget", "5", "--strategy", "core_set", "--out", "order.npy"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stdout.startswith("5 of 300 rows ordered by core_set")


def test_what_is_read_from_is_never_written_over(tmp_path, x):
    result = _select(tmp_path, "--out", tmp_path / "x.npy")
    assert result.exit_code == 2
    assert "which is also what is read from: name another file" in result.output.replace("\n", " ")
    assert np.array_equal(np.load(tmp_path / "x.npy"), x)


def test_an_answer_goes_only_where_a_file_of_its_own_may_be(tmp_path, x, monkeypatch):
    """A pipe would be opened for ever, a folder or a database be lost: all is refused before an array is read."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "hardfirst.db").write_bytes(b"rows")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "link.npy").symlink_to(home / "hardfirst.db")
    monkeypatch.setenv("HARDFIRST_HOME", str(home))
    for name, said in (
        ("pipe", "no regular file but a device, a pipe or the like"),
        ("circle", "no regular file"),
        ("home", "which is a folder"),
        ("home/hardfirst.db", "which hardfirst keeps in"),
        ("link.npy", "which hardfirst keeps in"),
    ):
        result = _select(tmp_path, "--out", tmp_path / name, x="none.npy")
        assert result.exit_code == 2
        assert said in result.output.replace("\n", " ")
    assert (home / "hardfirst.db").read_bytes() == b"rows"


def test_an_answer_goes_through_a_link_to_the_file_behind_it(tmp_path, x):
    np.save(tmp_path / "real.npy", np.zeros(1))
    (tmp_path / "link.npy").symlink_to("real.npy")
    assert _select(tmp_path, "--out", tmp_path / "link.npy").exit_code == 0
    assert (tmp_path / "link.npy").is_symlink()
    assert len(np.load(tmp_path / "real.npy")) == 20


def test_an_answer_in_the_folder_of_hardfirst_may_be_written_again(tmp_path, x, monkeypatch):
    """In a container nothing else can be written."""
    monkeypatch.setenv("HARDFIRST_HOME", str(tmp_path))
    for _ in range(2):
        assert _select(tmp_path).exit_code == 0
    np.save(tmp_path / "mine.npy", x)
    assert _select(tmp_path, "--out", tmp_path / "mine.npy").exit_code == 2
    assert np.array_equal(np.load(tmp_path / "mine.npy"), x)
