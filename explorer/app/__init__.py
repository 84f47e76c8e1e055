"""The app: lenses one looks through at edited models, in a notebook cell or on a page of their own.

The only room that knows about panel. `explorer.app` is a module that can be called: `ex.app()` is
the whole app, as a Panel viewable that displays itself in a notebook cell.
"""

import sys
import types

from explorer.app.arithmetic import ArithmeticLens
from explorer.app.serve import serve
from explorer.app.shell import app
from explorer.app.tab import tab

__all__ = ["ArithmeticLens", "app", "serve", "tab"]


class _CallableRoom(types.ModuleType):
    """So that `ex.app()` works although `explorer.app` is a package."""

    __call__ = staticmethod(app)


sys.modules[__name__].__class__ = _CallableRoom
