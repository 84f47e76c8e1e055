"""Learning on the Random Hierarchy Model, in the hierarchy lens: five experiments, side by side."""
