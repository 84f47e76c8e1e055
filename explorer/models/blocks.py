"""Transformer blocks with open_clip's parameter names and arithmetic.

In bfloat16 on a CPU they take shorter ways to the same numbers, as predictions of whole maps need.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# On a CPU in bfloat16, attention spelled out makes a small tower faster at 17 tokens (two thirds of
# the fused kernel's time for it), and no faster at 50.
_SHORT = 32
# Scores between this and its negative need not be shifted: exp stays far from bfloat16's limits.
_TAME = 60.0


class Attention(nn.Module):
    """Self-attention with the parameter names of ``torch.nn.MultiheadAttention``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, x: Tensor, queries: int | None = None, causal: bool = False, explicit: bool = False
    ) -> Tensor:
        """(n, tokens, width) -> (n, queries, width); only the first ``queries`` tokens attend.

        ``explicit`` spells the softmax out: the fused kernels have no forward-mode derivative.
        """
        return self.out_proj(self.heads_of(x, queries, causal, explicit))

    def heads_of(
        self, x: Tensor, queries: int | None = None, causal: bool = False, explicit: bool = False
    ) -> Tensor:
        """What every head found, side by side, before the output projection."""
        n, tokens, width = x.shape
        head_width = width // self.heads
        short = _is_short(x) and not (causal or explicit)
        first = 0 if queries is None else width
        weight, bias = self.in_proj_weight, self.in_proj_bias
        rest = _linear(x, weight[first:], bias[first:]).view(n, tokens, -1, self.heads, head_width)
        rest = rest.permute(2, 0, 3, 1, 4)
        parts = (rest.contiguous() if short else rest).unbind()
        if queries is not None:
            q = F.linear(x[:, :queries], weight[:width], bias[:width])
            parts = (q.view(n, queries, self.heads, head_width).transpose(1, 2), *parts)
        q, k, v = parts
        if explicit:
            scores = (q * head_width**-0.5) @ k.transpose(-1, -2)
            if causal:
                mask = torch.ones(tokens, tokens, dtype=torch.bool, device=x.device).triu(1)
                scores = scores.masked_fill(mask, float("-inf"))
            out = scores.softmax(-1) @ v
        elif short:
            out = _short_attention(q, k, v)
        else:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return out.transpose(1, 2).reshape(n, -1, width)


def _is_short(x: Tensor) -> bool:
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and x.shape[1] <= _SHORT


def _short_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v of few tokens: torch's fused kernel is made for many.

    The sum of the weights is divided out last, where there is least to divide.
    """
    n, heads, tokens, width = q.shape
    q, k, v = (x.reshape(n * heads, -1, width) for x in (q, k, v))
    scores = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=width**-0.5)
    low, high = scores.aminmax()
    if max(-low, high) > _TAME:
        scores -= scores.amax(-1, keepdim=True)
    weights = scores.exp_()
    out = (weights @ v).div_(weights.sum(-1, keepdim=True))
    return out.view(n, heads, tokens, width)


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W^T + b, in bfloat16 without the pass over memory in which torch writes the bias first."""
    fused = _fused_linear(x)
    return F.linear(x, weight, bias) if fused is None else fused(x, weight, bias, "none", [], "")


def _fused_linear(x: Tensor) -> Any:
    """A linear layer that adds, or applies GELU, while its output is in a register; or None.

    For predictions in bfloat16 on a CPU: it has no gradient.
    """
    wanted = x.dtype == torch.bfloat16 and x.device.type == "cpu"
    return _onednn_linear() if wanted and torch.is_inference_mode_enabled() else None


@cache
def _onednn_linear() -> Any:
    """oneDNN's, where this torch has one and calls it so (it is no public name), or None."""
    try:
        found = torch.ops.mkldnn._linear_pointwise
        x = torch.zeros(2, 2, dtype=torch.bfloat16)
        found.binary(found(x, x, x[0], "gelu", [], "none"), x, x, x[0], "add")
    except (AttributeError, RuntimeError):
        return None
    return found


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), the activation of OpenAI's original CLIP weights."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """Pre-norm transformer block, named as open_clip's ResidualAttentionBlock."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, quick_gelu: bool) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, hidden))
        self.mlp.add_module("gelu", QuickGELU() if quick_gelu else nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(hidden, width))

    def forward(
        self, x: Tensor, queries: int | None = None, causal: bool = False, explicit: bool = False
    ) -> Tensor:
        fused = None if causal or explicit else _fused_linear(x)
        if fused is not None and isinstance(self.mlp.gelu, nn.GELU):
            return self._fused(fused, x, queries)
        attended = self.attn(self.ln_1(x), queries, causal, explicit)
        x = (x if queries is None else x[:, :queries]) + attended
        return x + self.mlp(self.ln_2(x))

    def _fused(self, linear: Any, x: Tensor, queries: int | None) -> Tensor:
        """The same with sums and GELU as parts of linear layers, and with fewer roundings."""
        out = self.attn.out_proj
        mlp: Any = self.mlp
        attended = self.attn.heads_of(self.ln_1(x), queries)
        x = x if queries is None else x[:, :queries].contiguous()
        x = linear.binary(attended, x, out.weight, out.bias, "add")
        hidden = linear(self.ln_2(x), mlp.c_fc.weight, mlp.c_fc.bias, "gelu", [], "none")
        return linear.binary(hidden, x, mlp.c_proj.weight, mlp.c_proj.bias, "add")


class Transformer(nn.Module):
    """A stack of blocks under the name ``resblocks``."""

    def __init__(
        self, width: int, layers: int, heads: int, mlp_ratio: float, quick_gelu: bool
    ) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(
            Block(width, heads, mlp_ratio, quick_gelu) for _ in range(layers)
        )
