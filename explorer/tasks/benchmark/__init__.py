"""The 20 tasks of the task-arithmetic benchmarks: frozen class names, templates and images."""
