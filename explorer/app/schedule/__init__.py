"""The schedule lens: how much of an edit each depth receives, by hand, live; and what it costs."""
