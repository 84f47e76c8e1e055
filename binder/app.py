"""The page behind the Binder link: the whole app, served by jupyter-panel-proxy as /panel/app."""

import explorer as ex

ex.app().servable()
