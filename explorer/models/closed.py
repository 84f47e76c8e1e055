"""Closed-vocabulary models: towers without text, whose heads are linear probes in a file.

Hazimeh et al. 2025 (arXiv 2511.14569): a head is fitted on the base's frozen features first, and
stays while the tower is fine-tuned and task vectors are added. The base with these heads is linear
probing. (``with_probes`` fits such heads for a model that has others.)
"""

from collections.abc import Sequence
from typing import NoReturn

import torch

from explorer.checkpoints.reading import check_finite, read_safetensors
from explorer.editing.task_vector import TaskVector
from explorer.errors import CheckpointError, ModelError, VocabularyError
from explorer.models.heads import LinearHead
from explorer.models.model import Model


class ClosedModel(Model):
    """A model of a folder with heads in a file, for its tasks and its control."""

    base_title = "linear probe"

    def head(
        self,
        name: str,
        class_names: Sequence[str] | None = None,
        templates: Sequence[str] | None = None,
    ) -> LinearHead:
        """The head of a task. Raises VocabularyError for prompts, which need words;
        CheckpointError for a damaged file, ModelError for an added task, which has none."""
        self.task(name)
        if class_names is not None or templates is not None:
            self._text_side()
        with self._lock:
            if not self._heads:
                self._heads.update({(task,): head for task, head in self._read_heads().items()})
            if (name,) not in self._heads:  # a task that was added to the model's own
                raise ModelError(
                    f"{self.name} has no head for {name!r}, and no text to make one of; fit one "
                    "with ex.with_probes."
                )
            return self._heads[name,]

    def task_vector(self, name: str, space: str = "weights") -> TaskVector:
        """As of every model; there are none in the tangent space where the folder has none."""
        without = not (self.folder.path / "tangent").is_dir()
        if space == "tangent" and without and name in self.tasks:
            raise ModelError(
                f"{self.name} has no vectors that were fine-tuned in the tangent space; use "
                "space='posthoc', which linearises its own, or space='weights'."
            )
        return super().task_vector(name, space)

    def heads_made_of(self, tasks: Sequence[str]) -> list[bytes]:
        """The heads of these tasks, by their numbers."""
        return [self.head(task).weight.cpu().numpy().tobytes() for task in tasks]

    def _read_heads(self) -> dict[str, LinearHead]:
        path = self.folder.file(self.card["heads"])
        where = f"{self.name}/{path.name}"
        stored = read_safetensors(path)
        check_finite(stored, where)
        heads = {}
        for name in [*self.folder.tasks, *filter(None, [self.folder.control])]:
            names = self.task(name).class_names
            shape = (len(names), self.embed_dim)
            if name not in stored:
                raise CheckpointError(f"{where} has no head for {name!r}; copy the model again.")
            if stored[name].shape != shape:
                raise CheckpointError(
                    f"The head of {name!r} in {where} is {tuple(stored[name].shape)}, and a head "
                    f"for its classes and this tower is {shape}; copy the model again."
                )
            with torch.inference_mode(False):
                heads[name] = LinearHead(stored[name].float().to(self.device), names, ())
        return heads

    def _text_side(self) -> NoReturn:
        """What all words are encoded by: there is none."""
        raise VocabularyError(
            f"{self.name} was trained without text: its heads are linear probes, which know their "
            "task's classes and no words. Prompts can be written on a model with text, as glyphs."
        )
