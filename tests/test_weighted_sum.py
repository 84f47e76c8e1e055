"""The fused merge is the plain sum, however it is cut, and on however many cores."""

import pytest
import torch

from explorer.compute import weighted_sum
from explorer.compute.weighted_sum import weighted_sum_into


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("worth_it", [0, 10**9])
@pytest.mark.parametrize("n", [1, 31, 32, 1000, 4097])
def test_it_is_the_sum_row_by_row(monkeypatch, worth_it, n):
    monkeypatch.setattr(weighted_sum, "_WORTH_IT", worth_it)
    rows, base, weights = torch.randn(5, n), torch.randn(n), torch.randn(2, 5)
    out, middle = torch.full((n,), float("nan")), n // 3
    weighted_sum_into(
        out, base, rows, [(slice(0, middle), weights[0]), (slice(middle, n), weights[1])]
    )
    for part, c in ((slice(0, middle), weights[0]), (slice(middle, n), weights[1])):
        expected = base[part].double()
        for weight, row in zip(c, rows[:, part], strict=True):
            expected = expected + weight.double() * row.double()
        torch.testing.assert_close(out[part].double(), expected, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("two_threads")
def test_the_pieces_are_the_part_and_begin_on_cache_lines():
    for start, stop, n in ((0, 100, 2), (64, 65, 4), (32, 32 * 7, 3), (0, 0, 2)):
        pieces = weighted_sum._cut(slice(start, stop), n)
        assert len(pieces) <= n
        covered = [i for piece in pieces for i in range(piece.start, piece.stop)]
        assert covered == list(range(start, stop))
        assert all((piece.start - start) % 32 == 0 for piece in pieces)


@pytest.mark.usefixtures("two_threads")
def test_no_piece_is_so_long_that_a_slow_core_keeps_the_others_waiting(monkeypatch):
    monkeypatch.setattr(weighted_sum, "_PIECE", 64)
    pieces = weighted_sum._cut(slice(32, 32 * 21), 2)
    assert [piece.stop - piece.start for piece in pieces] == [64] * 10
    rows, base, out = torch.randn(3, 5000), torch.randn(5000), torch.empty(5000)
    monkeypatch.setattr(weighted_sum, "_WORTH_IT", 0)
    weights = torch.tensor([0.5, -1.0, 2.0])
    weighted_sum_into(out, base, rows, [(slice(0, 5000), weights)])
    torch.testing.assert_close(out, base + weights @ rows)


@pytest.mark.usefixtures("two_threads")
def test_buffers_made_in_inference_mode_are_written_too(monkeypatch):
    monkeypatch.setattr(weighted_sum, "_WORTH_IT", 0)
    with torch.inference_mode():
        out, base, rows = torch.empty(100), torch.zeros(100), torch.ones(3, 100)
    weighted_sum_into(out, base, rows, [(slice(0, 100), torch.tensor([1.0, 2.0, 3.0]))])
    assert out.tolist() == [6.0] * 100


@pytest.mark.usefixtures("two_threads")
def test_what_goes_wrong_in_a_piece_is_raised(monkeypatch):
    monkeypatch.setattr(weighted_sum, "_WORTH_IT", 0)
    with pytest.raises(RuntimeError):
        weighted_sum_into(
            torch.empty(64), torch.zeros(64), torch.ones(3, 64), [(slice(0, 64), torch.ones(2))]
        )
