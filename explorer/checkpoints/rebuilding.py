"""What a pickle may call: the functions that torch, numpy and plain data are pickled with.

Each of them is written out here for ``StoredTensor``s and plain data, and looked up by name;
nothing is taken from the module that a file names. All other classes become inert records.
"""

from collections.abc import Callable
from typing import Any

import torch

from explorer.checkpoints.pickle_machine import Machine, put
from explorer.checkpoints.records import Blob, Name, Record, described, refusal, runs_code
from explorer.checkpoints.stored import Storage, StoredTensor, stored_tensor

_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
    "_UntypedStorage": torch.uint8,
}
# A fixed table: asking torch for an attribute of any name would import the module of that name.
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *_STORAGES.values(),
        torch.uint16,
        torch.uint32,
        torch.uint64,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
    )
}
# By numpy's code of kind and size.
_NUMPY = {
    "f2": torch.float16,
    "f4": torch.float32,
    "f8": torch.float64,
    "i1": torch.int8,
    "i2": torch.int16,
    "i4": torch.int32,
    "i8": torch.int64,
    "u1": torch.uint8,
    "b1": torch.bool,
}


def call(machine: Machine, function: object, arguments: object) -> object:
    """What calling a name with arguments stands for. Raises CheckpointError for code."""
    if not isinstance(function, Name):
        raise refusal(machine.source.path, "calls what another call has returned")
    if not isinstance(arguments, tuple):
        raise TypeError("the arguments of a call are no tuple")
    machine.spend(len(arguments))
    known = _KNOWN.get((function.module, function.name))
    if known is not None:
        return known(machine, *arguments)
    if runs_code(function):
        raise refusal(machine.source.path, f"calls {function}")
    first = arguments[0] if arguments else None
    if function.name in ("Parameter", "Buffer") and isinstance(first, StoredTensor):
        return first
    return Record(function, arguments)


def set_state(machine: Machine, target: object, state: object) -> object:
    """A record keeps its state; tensors, dictionaries and names have none that is needed."""
    if isinstance(target, Record):
        target.state = state
    return target


def storage_dtype(kind: object) -> torch.dtype:
    """The element type of a storage class that a file names. Raises ValueError."""
    if not isinstance(kind, Name) or kind.name not in _STORAGES:
        raise ValueError(f"{described(kind)} is no kind of storage")
    return _STORAGES[kind.name]


def as_tensor(value: object) -> StoredTensor | None:
    """The tensor that a value is: itself, or a numpy array's record; None for anything else."""
    if isinstance(value, StoredTensor):
        return value
    if not isinstance(value, Record) or value.name.name != "ndarray":
        return None
    state = value.state
    if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[1], tuple):
        return None
    _, shape, kind, fortran, content = state
    dtype = _numpy_dtype(kind)
    if dtype is None or not isinstance(content, Blob) or not isinstance(value.arguments, tuple):
        return None
    path = value.arguments[0]
    storage = Storage(path, content.offset, content.length, dtype, content.data)
    tensor = stored_tensor(storage, dtype, shape[::-1] if fortran else shape)
    if fortran:
        return StoredTensor(storage, dtype, shape, tensor.stride[::-1])
    return tensor


def _numpy_dtype(kind: object) -> torch.dtype | None:
    if not isinstance(kind, Record) or not isinstance(kind.arguments, tuple) or not kind.arguments:
        return None
    order = kind.state[1] if isinstance(kind.state, tuple) and len(kind.state) > 1 else "<"
    code = kind.arguments[0]
    if order == ">" or not isinstance(code, str):
        return None
    return _NUMPY.get(code[:8].lstrip("<|="))


# --- torch -----------------------------------------------------------------------------------


def _tensor(
    machine: Machine, storage: object, start: object, shape: Any, stride: Any, *rest: object
) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without a storage")
    return stored_tensor(storage, storage.dtype, shape, stride, start)


def _tensor_of_dtype(
    machine: Machine, storage: object, start: object, shape: Any, stride: Any, *rest: object
) -> StoredTensor:
    kind = rest[2] if len(rest) > 2 else None
    known = isinstance(kind, Name) and kind.module == "torch"
    dtype = _DTYPES.get(kind.name) if known else None  # type: ignore[attr-defined]
    if not isinstance(storage, Storage) or dtype is None:
        raise ValueError(f"a tensor without a storage, or of the type {described(kind)}")
    return stored_tensor(storage, dtype, shape, stride, start)


def _of_type(
    machine: Machine, function: object, kind: object, arguments: object, *_: object
) -> object:
    return call(machine, function, arguments)


def _stored_bytes(machine: Machine, content: object) -> object:
    from explorer.checkpoints.torch_files import read_nested

    if not isinstance(content, Blob):
        raise ValueError("a storage without bytes")
    return read_nested(machine, content)


# --- plain data ------------------------------------------------------------------------------


def _dictionary(machine: Machine, *arguments: object) -> dict[object, object]:
    made: dict[object, object] = {}
    content = arguments[0] if arguments else ()
    if isinstance(content, dict):
        content = list(content.items())
    if isinstance(content, list | tuple):
        machine.spend(len(content))
        put(made, [pair for pair in content if isinstance(pair, list | tuple) and len(pair) == 2])
    return made


def _elements(machine: Machine, content: object = ()) -> list[object]:
    if not isinstance(content, list | tuple):
        raise ValueError("a list of elements was expected")
    machine.spend(len(content))
    return list(content)


def _size(machine: Machine, content: object = ()) -> tuple[object, ...]:
    return tuple(_elements(machine, content))


def _encoded(machine: Machine, text: object = "", encoding: object = "latin1") -> Blob:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "ascii", "utf-8"):
        raise ValueError("bytes in an unusual encoding")
    data = text.encode(str(encoding))
    machine.spend(made=len(data))
    return Blob(0, len(data), data)


def _bytes(machine: Machine, content: object = None, encoding: object = "latin1") -> Blob:
    return content if isinstance(content, Blob) else _encoded(machine, content or "", encoding)


def _reconstructed(machine: Machine, cls: object, base: object, *_: object) -> object:
    call(machine, base, ())  # refused where it would run code
    return call(machine, cls, ())


def _new(machine: Machine, cls: object, *arguments: object) -> object:
    return call(machine, cls, arguments)


def _new_with_keywords(machine: Machine, cls: object, arguments: object, _: object) -> object:
    return call(machine, cls, arguments)


def _partial(machine: Machine, function: object = None, *_: object) -> Record:
    """A function with some arguments given, as vision models keep their norm layers."""
    if not isinstance(function, Name) or runs_code(function):
        raise refusal(machine.source.path, f"prepares a call of {described(function)}")
    return Record(Name("functools", "partial"), (function,))


# --- numpy -----------------------------------------------------------------------------------


def _array(machine: Machine, *_: object) -> Record:
    return Record(Name("numpy", "ndarray"), (machine.source.path,))


def _described(machine: Machine, *arguments: object) -> Record:
    return Record(Name("numpy", "dtype"), arguments)


def _scalar(machine: Machine, kind: object, content: object = None) -> object:
    dtype = _numpy_dtype(kind)
    if dtype is None or not isinstance(content, Blob) or content.length != dtype.itemsize:
        return Record(Name("numpy", "scalar"), ())
    raw = bytearray(machine.source.bytes_of(content))
    return torch.frombuffer(raw, dtype=dtype)[0].item()


def _none(machine: Machine, *_: object) -> None:
    return None


def _first(machine: Machine, *arguments: object) -> object:
    return arguments[0]


_Functions = dict[str, Callable[..., object]]
_PLAIN: _Functions = {
    "dict": _dictionary,
    "list": _elements,
    "tuple": _size,
    "set": _elements,
    "frozenset": _elements,
    "bytes": _bytes,
    "bytearray": _bytes,
    "object": lambda machine, *_: Record(Name("builtins", "object")),
    "slice": lambda machine, *arguments: Record(Name("builtins", "slice"), arguments),
    "range": lambda machine, *arguments: Record(Name("builtins", "range"), arguments),
    "complex": lambda machine, *arguments: Record(Name("builtins", "complex"), arguments),
}
_COPYREG: _Functions = {
    "_reconstructor": _reconstructed,
    "__newobj__": _new,
    "__newobj_ex__": _new_with_keywords,
}
_MULTIARRAY: _Functions = {"_reconstruct": _array, "scalar": _scalar}
_BY_MODULE: dict[str, _Functions] = {
    "torch._utils": {
        "_rebuild_tensor": _tensor,
        "_rebuild_tensor_v2": _tensor,
        "_rebuild_tensor_v3": _tensor_of_dtype,
        "_rebuild_parameter": _first,
        "_rebuild_parameter_with_state": _first,
        "_rebuild_meta_tensor_no_storage": _none,
    },
    "torch._tensor": {"_rebuild_from_type_v2": _of_type},
    "torch.storage": {"_load_from_bytes": _stored_bytes},
    "torch": {"Size": _size, "device": _none},
    "torch.jit._pickle": dict.fromkeys(
        (
            "build_intlist",
            "build_tensorlist",
            "build_doublelist",
            "build_boollist",
            "restore_type_tag",
        ),
        _first,
    ),
    "collections": {
        "OrderedDict": _dictionary,
        "Counter": _dictionary,
        "defaultdict": lambda machine, factory=None, content=(): _dictionary(machine, content),
    },
    "builtins": _PLAIN,
    "__builtin__": _PLAIN,
    "_codecs": {"encode": _encoded},
    "functools": {"partial": _partial},
    "copyreg": _COPYREG,
    "copy_reg": _COPYREG,
    "numpy": {"ndarray": _array, "dtype": _described},
    "numpy.core.multiarray": _MULTIARRAY,
    "numpy._core.multiarray": _MULTIARRAY,
}
_KNOWN = {
    (module, name): function
    for module, functions in _BY_MODULE.items()
    for name, function in functions.items()
}
