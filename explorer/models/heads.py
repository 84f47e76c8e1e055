"""Heads: bias-free linear classifiers on normalised features; zero-shot ones from texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.errors import VocabularyError


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A bias-free linear head on normalised features; ``weight`` is (classes, embed_dim)."""

    weight: Tensor
    class_names: tuple[str, ...]
    templates: tuple[str, ...]

    def logits(self, features: Tensor) -> Tensor:
        """(n, embed_dim) features of any length -> (n, classes) logits, in float32."""
        return F.normalize(features.float(), dim=-1) @ self.weight.T

    def predict(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted class (n,) and its probability (n,)."""
        confidence, predicted = self.logits(features).softmax(-1).max(-1)
        return predicted, confidence


class ZeroShotHead(LinearHead):
    """A head of text features, one a class, made from ``templates``."""


def zero_shot_head(
    encode_text: Callable[[Sequence[str]], Tensor],
    logit_scale: float,
    class_names: Sequence[str],
    templates: Sequence[str],
) -> ZeroShotHead:
    """Head from class names and templates, as in Radford et al. 2021, section 3.1.4.

    Each prompt's feature is normalised, the mean over templates is normalised again, and
    everything is multiplied by exp(logit_scale). Raises VocabularyError for prompts that are none.
    """
    names, prompts = _texts(class_names, "class name"), _texts(templates, "template")
    for template in prompts:
        if template.count("{}") != 1 or template.replace("{}", "").count("{"):
            raise VocabularyError(
                f"The template {template!r} must contain {{}} once, where the class name goes."
            )
    texts = [prompt.replace("{}", name) for name in names for prompt in prompts]
    features = F.normalize(encode_text(texts), dim=-1)
    mean = features.view(len(names), len(prompts), -1).mean(1)
    weight = F.normalize(mean, dim=-1) * torch.tensor(logit_scale).exp()
    return ZeroShotHead(weight, names, prompts)


def _texts(values: Sequence[str], what: str) -> tuple[str, ...]:
    if isinstance(values, str) or not values:
        raise VocabularyError(f"Give the {what}s as a list with at least one text.")
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise VocabularyError(f"{value!r} is no {what}; give a text.")
    return tuple(values)
