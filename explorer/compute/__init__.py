"""Devices, resident weights and runs: the only room that knows about threads and memory."""
