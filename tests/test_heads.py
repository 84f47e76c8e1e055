"""Zero-shot heads: a literal loop gives the same, and prompts of one's own change them."""

import pytest
import torch

import explorer as ex


def test_the_head_equals_a_literal_loop_over_classes_and_templates(tiny_model):
    task = tiny_model.task("digits")
    scale = tiny_model._text_side()[0].logit_scale.exp()
    for name, weight in zip(task.class_names, tiny_model.head("digits").weight, strict=True):
        features = [tiny_model.encode_text([t.format(name)])[0] for t in task.templates]
        mean = sum(f / f.norm() for f in features) / len(features)
        torch.testing.assert_close(weight, mean / mean.norm() * scale)


def test_logits_do_not_depend_on_the_length_of_the_features(tiny_model):
    head, features = tiny_model.head("letters"), torch.randn(6, tiny_model.embed_dim)
    torch.testing.assert_close(head.logits(features), head.logits(7.5 * features))


def test_predict_gives_the_likeliest_class_and_its_probability(tiny_model):
    head, features = tiny_model.head("letters"), torch.randn(6, tiny_model.embed_dim)
    predicted, confidence = head.predict(features)
    probabilities = head.logits(features).softmax(1)
    assert torch.equal(predicted, probabilities.argmax(1))
    torch.testing.assert_close(confidence, probabilities.max(1).values)


def test_heads_are_cached_by_their_prompts(tiny_model):
    assert tiny_model.head("digits") is tiny_model.head("digits")
    own = tiny_model.head("digits", templates=["a {}"])
    assert own is not tiny_model.head("digits")
    assert own is tiny_model.head("digits", templates=["a {}"])


def test_class_names_of_ones_own_change_only_their_class(tiny_model):
    names = list(tiny_model.task("hearts").class_names)
    changed = tiny_model.head("hearts", class_names=["cat", *names[1:]]).weight
    own = tiny_model.head("hearts").weight
    assert not torch.allclose(changed[0], own[0])
    torch.testing.assert_close(changed[1:], own[1:])


def test_a_head_needs_as_many_names_as_the_task_has_classes(tiny_model):
    with pytest.raises(ex.RecipeError, match="has 3 classes; 2"):
        tiny_model.head("hearts", class_names=["cat", "dog"])


@pytest.mark.parametrize("template", ["no place", "{} and {}", "{0} {}", "{name}"])
def test_a_template_has_one_place_for_the_name(tiny_model, template):
    with pytest.raises(ex.VocabularyError, match="must contain"):
        tiny_model.head("hearts", templates=[template])


@pytest.mark.parametrize("names", [["cat", "", "dog"], ["cat", "dog", 3]])
def test_a_class_name_is_a_text(tiny_model, names):
    with pytest.raises(ex.VocabularyError, match="no class name"):
        tiny_model.head("hearts", class_names=names)
    with pytest.raises(ex.VocabularyError, match="at least one"):
        tiny_model.head("hearts", templates=[])
