"""Classes that act while they are unpickled. Only the attacked process of a test imports this."""

import os


def act():
    open(os.environ["ATTACK_MARKER"], "w").close()


class OnNew:
    def __new__(cls, *arguments):
        act()
        return super().__new__(cls)


class OnState:
    def __setstate__(self, state):
        act()


class OnHash:
    def __hash__(self):
        act()
        return 0


class OnAppend(list):
    def append(self, value):
        act()

    extend = append


class OnItem(dict):
    def __setitem__(self, key, value):
        act()


class OnAdd:
    def add(self, value):
        act()
