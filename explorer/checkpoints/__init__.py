"""Files and folders of weights turned into named tensors, without ever running their code."""
