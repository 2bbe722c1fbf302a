"""Quantisation-aware training: grids and gradients with known answers."""

import itertools

import pytest
import torch

from compress.training import quantisation_weights
from compress.training.quantisation_activations import Grid, Range, fixed, observed, quantiser
from compress.training.quantisation_weights import METHODS, project

BITS = {"minmax": (2, 3, 4, 6, 8), "lsq": (2, 3, 4, 6, 8), "dorefa": (2, 3, 4, 6, 8), "binary": (1,), "ternary": (2,)}
BITS |= {"trained-ternary": (2,), "loss-aware": (1, 2, 3, 4)}
GRIDS = [(method, bits) for method, all_bits in BITS.items() for bits in all_bits]


def weights(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)) / 4


def quantised(weight: torch.Tensor, method: str, bits: int, axis: int | None = None) -> torch.Tensor:
    return METHODS[method](weight, bits, axis)(weight).detach()


@pytest.mark.parametrize(
    ("method", "bits", "weight", "expected"),
    [
        ("minmax", 2, [0.9, -0.2, -0.5, 0.4], [0.9, 0.0, -0.9, 0.0]),
        ("minmax", 3, [0.9, -0.2, -0.5, 0.4], [0.9, -0.3, -0.6, 0.3]),
        ("minmax", 8, [1.27, 0.504, -0.0049, 0.0], [1.27, 0.5, 0.0, 0.0]),
        ("lsq", 2, [1.0, -1.0, 0.2, -5.8], [0.0, 0.0, 0.0, -4.0]),  # step 2 * 2 / sqrt(1) = 4; -2 to 1
        ("lsq", 3, [1.0, -1.0, 4.0, -6.0], [0.0, 0.0, 3.4641, -6.9282]),  # step 2 * 3 / sqrt(3); -4 to 3
        ("binary", 1, [1.0, -2.0, 0.0, -5.0], [2.0, -2.0, 2.0, -2.0]),
        ("ternary", 2, [1.0, -2.0, 0.1, -5.0], [0.0, -3.5, 0.0, -3.5]),  # threshold 0.7 * 2.025
        ("trained-ternary", 2, [4.0, -4.0, 0.1, 0.3], [2.1, -2.1, 0.0, 2.1]),  # threshold 0.05 * 4
        ("loss-aware", 1, [1.0, -2.0, 0.0, -5.0], [2.0, -2.0, 2.0, -2.0]),  # without a curvature the mean magnitude is the best
    ],
)
def test_grids_with_known_answers(method: str, bits: int, weight: list[float], expected: list[float]) -> None:
    """Each method gives the values that its paper's formula gives."""
    torch.testing.assert_close(quantised(torch.tensor(weight), method, bits), torch.tensor(expected), atol=1e-4, rtol=0)


def test_dorefa_levels() -> None:
    """Two bits are four levels without zero: -1, -1/3, 1/3, 1 of the largest weight."""
    found = quantised(torch.tensor([-0.3, -0.05, 0.05, 0.3]), "dorefa", 2)
    torch.testing.assert_close(found, torch.tensor([-0.3, -0.1, 0.1, 0.3]))


@pytest.mark.parametrize(("method", "bits"), GRIDS)
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_a_scale_has_no_more_values_than_its_bits(method: str, bits: int, axis: int | None) -> None:
    """Under one scale there are at most 2 ** bits values, to the last bit; a dead channel of zeros does no harm."""
    weight = weights(5, 6, 4, 4)
    weight[:, 2] = 0
    found = quantised(weight, method, bits, axis)
    assert torch.isfinite(found).all()
    parts = [found] if axis is None else found.unbind(axis)
    assert max(len(part.unique()) for part in parts) <= 2**bits
    assert max(len(part.unique()) for part in parts) > 1


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_minmax_is_derived_again(bits: int) -> None:
    """A symmetric min/max quantiser of as many bits, and int8 itself for a grid of fewer values, leaves the weights as they are."""
    found = quantised(weights(8, 50), "minmax", bits, 0)
    torch.testing.assert_close(quantised(found, "minmax", bits, 0), found, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        quantised(quantised(weights(8, 50), "ternary", 2, 0), "minmax", 8, 0), quantised(weights(8, 50), "ternary", 2, 0)
    )


def test_blocks_have_scales_of_their_own() -> None:
    """Each block of inputs, and a shorter rest, is on the grid of its largest weight; gradients pass as without blocks."""
    weight = torch.tensor([[3.0] + [1.0] * 15 + [0.3, 0.1], [0.7] + [0.2] * 15 + [0.0, 0.0]]).requires_grad_()
    blocked = quantisation_weights.Blocked(weight.detach(), 2, 16, quantisation_weights.MinMax)
    found = blocked(weight)
    torch.testing.assert_close(found.detach(), torch.tensor([[3.0] + [0.0] * 15 + [0.3, 0.0], [0.7] + [0.0] * 17]))
    found.sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, torch.ones(2, 18))


@pytest.mark.parametrize(("method", "bits"), [one for one in GRIDS if one[0] not in ("binary", "lsq", "dorefa", "trained-ternary")])
def test_gradients_pass_straight_through(method: str, bits: int) -> None:
    """What rounds by a scale that is computed hands the gradient on as it is."""
    weight = weights(4, 9).requires_grad_()
    upstream = weights(4, 9) * 3
    METHODS[method](weight.detach(), bits, 0)(weight).backward(upstream)
    torch.testing.assert_close(weight.grad, upstream)


def test_gradients_of_learned_steps() -> None:
    """LSQ: the step's gradient is round(v) - v inside and the end of the range outside; a clipped weight has none."""
    weight = torch.tensor([1.0, -1.3, 4.0, -7.7], requires_grad=True)
    lsq = quantisation_weights.LearnedStep(weight, 2, None)
    lsq.start.fill_(2.0)
    lsq(weight).sum().backward()
    assert weight.grad is not None
    assert lsq.log_ratio.grad is not None
    torch.testing.assert_close(weight.grad, torch.tensor([1.0, 1.0, 0.0, 0.0]))
    by_hand = (0 - 0.5) + (-1 + 0.65) + 1 - 2  # half goes to even
    torch.testing.assert_close(lsq.log_ratio.grad, torch.tensor([2.0 * by_hand]))  # d step / d log step = step = 2


def test_gradients_of_signs_and_of_trained_ternary_values() -> None:
    """BinaryConnect hands on nothing beyond -1..1; TTQ scales by the value that stands for a weight, and its values' gradients are sums."""
    weight = torch.tensor([0.5, -0.5, 3.0, 0.01], requires_grad=True)
    ternary = quantisation_weights.TrainedTernary(weight, 2, None)
    ternary.start.fill_(2.0)
    ternary(weight).sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, torch.tensor([2.0, 2.0, 2.0, 1.0]))
    assert float(ternary.log_positive.grad) == 2 * 2.0
    assert float(ternary.log_negative.grad) == -2.0
    weight.grad = None
    mean = float(weight.detach().abs().mean())
    quantisation_weights.Binary(weight, 1, None)(weight).sum().backward()
    of_mean = weight.detach().sign() * 2 / 4  # the signs add up to 2
    torch.testing.assert_close(weight.grad, torch.tensor([mean, mean, 0.0, mean]) + of_mean)


@pytest.mark.parametrize(
    ("bits", "method", "seen", "values", "expected"),
    [
        (2, "minmax", (0.0, 3.0, 1.0), [-1.0, 0.4, 1.6, 9.0], [0.0, 0.0, 2.0, 3.0]),
        (2, "minmax", (-1.0, 2.0, 1.0), [-5.0, -0.6, 0.2, 9.0], [-1.0, -1.0, 0.0, 2.0]),
        (4, "pact", (0.0, 30.0, 1.0), [-1.0, 3.0, 29.0, 99.0], [0.0, 4.0, 28.0, 30.0]),  # 3 / 2 goes to even
        (4, "lsq", (0.0, 30.0, 15**0.5), [-1.0, 3.1, 29.0, 99.0], [0.0, 4.0, 28.0, 30.0]),  # step 2 * mean / sqrt(15)
        (1, "lsq", (0.0, 9.0, 1.0), [-1.0, 0.9, 1.1, 9.0], [0.0, 0.0, 2.0, 2.0]),
        (1, "lsq", (-9.0, 9.0, 1.5), [-8.0, -0.1, 0.0, 9.0], [-1.5, -1.5, 1.5, 1.5]),
    ],
)
def test_activations_with_known_answers(
    bits: int, method: str, seen: tuple[float, float, float], values: list[float], expected: list[float]
) -> None:
    """The quantiser gives the nearest value of its grid; what is left of it after training gives the same bits."""
    trained = quantiser(method, Range(*seen), bits, symmetric=False, percentile=99.9).eval()
    got = trained(torch.tensor(values))
    torch.testing.assert_close(got, torch.tensor(expected))
    many = torch.linspace(-10, 10, 4001)
    assert torch.equal(fixed(trained).eval()(many), trained(many))


def test_symmetric_activations_and_percentiles() -> None:
    """Symmetric grids have as many values on both sides; a percentile leaves outliers out."""
    assert Grid.of(Range(0, 5, 1), 8, symmetric=True) == Grid(-127, 127)
    values = torch.cat([torch.linspace(-1, 3, 998), torch.tensor([-50.0, 100.0])])
    assert observed(values, 100) == Range(-50.0, 100.0, pytest.approx(float(values.abs().mean())))
    cut = observed(values, 99.7)
    assert -1.01 < cut.low < -0.98
    assert 2.98 < cut.high < 3.01


def test_pact_learns_from_what_it_clips() -> None:
    """PACT's clipping value has the gradient of the clipped values alone; running ranges follow the batches in training only."""
    pact = quantiser("pact", Range(0, 4, 1), 4, symmetric=False, percentile=99.9)
    values = torch.tensor([1.3, 5.0, 6.0], requires_grad=True)
    pact(values).sum().backward()
    torch.testing.assert_close(pact.clip.grad, torch.tensor(2.0))
    torch.testing.assert_close(values.grad, torch.tensor([1.0, 0.0, 0.0]))
    running = quantiser("minmax", Range(0.0, 4.0, 1.0), 8, symmetric=False, percentile=99.9)
    running.eval()(torch.tensor([100.0]))
    torch.testing.assert_close(running.ends, torch.tensor([0.0, 4.0]))
    running.train()(torch.tensor([104.0]))
    torch.testing.assert_close(running.ends, torch.tensor([0.0, 9.0]))


def test_loss_aware_grids_weigh_by_the_curvature() -> None:
    """The scale of signs is sum(d |w|) / sum(d), the minimum of the weighted error; a ternary grid is at most as far as TWN's."""
    weight, curvature = torch.tensor([1.0, -0.1]), torch.tensor([1.0, 100.0])
    torch.testing.assert_close(project(weight, curvature, 1, [0]), torch.tensor([11 / 101, -11 / 101]))
    many, curvature = weights(400), weights(400).abs().roll(7) + 0.01
    for bits, other in ((1, "binary"), (2, "ternary"), (3, "minmax"), (4, "minmax")):
        ours = float((curvature * (project(many, curvature, bits, [0]) - many) ** 2).sum())
        assert ours < float((curvature * (quantised(many, other, bits) - many) ** 2).sum())


def test_a_loss_aware_step_lands_on_the_minimum() -> None:
    """From any signs, a Newton step and the projection by the true curvature give signs times a scale of the least quadratic loss."""
    target, stiffness = torch.tensor([0.9, -0.4, 0.15, -1.2, 0.05, 0.7]), torch.tensor([1.0, 30.0, 2.0, 0.5, 20.0, 4.0])
    losses: list[float] = []
    for signs in itertools.product((-1.0, 1.0), repeat=6):
        pattern = torch.tensor(signs)
        best = pattern * (stiffness * pattern * target).sum() / stiffness.sum()
        losses.append(float((stiffness * (best - target) ** 2).sum()))
    start = torch.tensor([0.3, 0.3, -0.3, 0.3, -0.3, 0.3])
    newton = start - 2 * stiffness * (start - target) / (2 * stiffness)
    found = project(newton, stiffness, 1, [0])
    assert float((stiffness * (found - target) ** 2).sum()) == pytest.approx(min(losses), rel=1e-5)


def test_loss_aware_training_finds_the_minimum() -> None:
    """Regression on what signs times 0.5 gave ends at these, where the loss is 0; the curvature is Adam's second moment."""
    truth = torch.tensor([[1.0, -1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0]]) / 2
    inputs = torch.randn(200, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 2, 1, 0.5, 1, 3, 1, 1])
    weight = weights(1, 8).requires_grad_()
    aware = quantisation_weights.LossAware(weight.detach(), 1, None)
    optimiser = torch.optim.Adam([weight], lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 300)
    weight.register_post_accumulate_grad_hook(lambda updated: aware.observe(updated.grad))
    assert torch.any(weight.sign() != truth.sign())
    for _ in range(300):
        optimiser.zero_grad()
        ((aware(weight) - truth) @ inputs.T).square().mean().backward()
        optimiser.step()
        schedule.step()
    moment = optimiser.state[weight]["exp_avg_sq"] / (1 - 0.999**300)
    torch.testing.assert_close(aware.curvature(), moment.sqrt() + 1e-8, rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(aware(weight), truth, atol=0.05, rtol=0)
