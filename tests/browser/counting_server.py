"""The app on the tiny model, in a process that keeps telling how many documents it holds."""

import gc
import sys
import threading
import time

from bokeh.document import Document

from explorer.app import serve


def count() -> None:
    while True:
        time.sleep(2)
        gc.collect()
        alive = sum(type(thing) is Document for thing in gc.get_objects())
        print(f"documents {alive}", flush=True)


threading.Thread(target=count, daemon=True).start()
serve(port=int(sys.argv[1]), show=False, model="tiny")
