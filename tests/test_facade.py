"""The façade: cheap to import, and every public name is there."""

import subprocess
import sys

import pytest

import explorer as ex


def test_importing_explorer_loads_neither_torch_nor_xarray_nor_panel():
    code = (
        "import sys, explorer; explorer.Recipe(); "
        "print([m for m in ('torch', 'xarray', 'pandas', 'panel', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_opening_a_model_does_not_import_open_clip_or_the_compiler(tiny_folder):
    code = (
        "import sys, explorer as ex; m = ex.open_model(sys.argv[1]); m.head('digits'); "
        "m.engine().set_recipe(ex.Recipe(coefficients={'digits': 1})); "
        "print([n for n in ('open_clip', 'torchvision', 'torch._dynamo') if n in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tiny_folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", sorted(set(ex.__all__) - {"app", "ArithmeticLens"}))
def test_every_public_name_resolves(name):
    assert getattr(ex, name) is not None
    assert name in dir(ex)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ex.nonsense  # noqa: B018
